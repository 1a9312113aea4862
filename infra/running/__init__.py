"""Start work on this machine or a cluster, and show its progress."""
