"""Keeps the agent running without its terminal: a systemd user unit, cron, or Termux:Boot."""
