"""Frames as a backbone wants them."""
