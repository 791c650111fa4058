"""Files that stand at the top of the archive."""
