"""Masked-Faces, losses, and the programs that train and measure the networks."""
