"""Masked-Faces on disk: photos to aligned faces, masks drawn on them once, shards, and how training reads those."""
