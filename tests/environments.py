"""The two environments of `make test`."""

#: What the second one has none of.
HEAVY = ("torch", "transformers", "adapters", "peft")
