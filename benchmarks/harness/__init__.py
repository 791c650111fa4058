"""What every scenario needs: processes and their cost, figures and goals, blocks in turn, the report."""
