#!/usr/bin/env python
"""Django's command line in a checkout; `retire-cluster-manage` is the same one installed."""

import sys

from retire_cluster.cli.manage import main

if __name__ == "__main__":
    sys.exit(main())
