"""System checks; ids retire_cluster.E… and W… are stable."""
