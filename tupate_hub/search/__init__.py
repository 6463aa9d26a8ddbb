"""Search: what is asked, and the answer."""
