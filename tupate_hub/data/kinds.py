"""Kinds: the forms of task that can be tuned and scored. Imported at start-up, so it imports nothing."""

KINDS = ("classification", "regression", "extractive_qa", "multiple_choice", "token_classification")
