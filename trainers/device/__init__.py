"""Work on and with a device: copies to and from it, random draws, and checks for numbers that are not finite."""
