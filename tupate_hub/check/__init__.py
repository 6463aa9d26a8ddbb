"""Check: will this adapter do anything, and on which base model? Rules over what was read of a file; nothing is run.

`rules` is the one table of what can be found, `docs/check.md` the same for people.
"""
