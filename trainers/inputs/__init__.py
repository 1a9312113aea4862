"""Turns decoded frames into the input of a backbone."""
