"""`retire-cluster-worker` with less patience, so that an episode takes seconds: else the very same agent."""

import sys

from retire_cluster.agent.config import Timing
from retire_cluster.cli import worker

IMPATIENT = Timing(
    welcome_s=5.0, silence_margin_s=2.0, longest_retry_s=1.0, stable_s=1.0, replaced_s=2.0, sync_s=0.3
)

if __name__ == "__main__":
    sys.exit(worker.main(timing=IMPATIENT))
