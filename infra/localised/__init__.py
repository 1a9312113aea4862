"""The page of a localisation."""
