"""Kinds: the forms of task that can be tuned and scored. Imported at start-up, so it imports nothing."""

KINDS = ("classification", "multi_label", "regression", "extractive_qa", "multiple_choice", "token_classification")

#: What each kind may be scored by, the usual metric first.
METRICS = {
    "classification": (
        "accuracy", "macro_f1", "macro_recall", "accuracy_and_macro_f1", "matthews_correlation", "accuracy_and_f1",
        "f1_answer",
    ),
    "multi_label": ("micro_f1", "macro_f1"),
    "regression": ("pearson_and_spearman",),
    "extractive_qa": ("squad_f1", "squad_v2_f1"),
    "multiple_choice": ("accuracy",),
    "token_classification": ("span_f1", "accuracy", "macro_f1"),
}  # fmt: skip
#: Metrics that look at the second class alone.
OF_TWO_CLASSES = ("accuracy_and_f1", "f1_answer")
