"""Runs as a page that a person can look at."""
