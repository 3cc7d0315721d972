"""A run written out: what every stage saw and made of chosen frames, a page to look at it, and one frame run again."""
