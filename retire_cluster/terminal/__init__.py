"""For people: `retire-cluster` for daily work, `retire-cluster-status` to look. On the SDK; no Django."""
