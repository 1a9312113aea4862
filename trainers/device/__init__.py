"""What a device needs: copies to and from it, random draws, checks for numbers that are not finite."""
