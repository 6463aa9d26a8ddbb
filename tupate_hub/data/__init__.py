"""Data: a user's examples in, checked, without torch."""
