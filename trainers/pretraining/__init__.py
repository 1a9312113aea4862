"""A start that has not seen the tags: learned from trimmed clips."""
