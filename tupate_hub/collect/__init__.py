"""Collect: tuned parameters from disk, the Hub or another registry into a registry of the user's own."""
