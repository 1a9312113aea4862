"""Pre-training on trimmed clips: a start for the small backbone that has not seen the labels of the videos."""
