"""An application that stores what happens and tells everybody who listens; and one that stores heartbeats."""
