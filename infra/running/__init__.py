"""Starting work on this machine or a cluster, and showing how far it is."""
