"""Runs as jobs of a Ray cluster, and the list of runs."""
