"""The cluster server agents dial into: sockets in an event loop, one committer thread for all it writes."""
