"""What the page must know to read adapters as the readers do: their own tables, so that none is written twice."""

from __future__ import annotations

from typing import Any

from tupate_hub.compare.magnitude import DIVERGED
from tupate_hub.compare.ranking import ROUNDING, TIE
from tupate_hub.evaluation.forecast import SIGMAS
from tupate_hub.export.readme import class_of_kind
from tupate_hub.knownbases import BY_NAME, MIRRORS, QUANTISED, WIDTHS
from tupate_hub.readers.names import HEADS, LANGUAGE_HEADS, ROOTS
from tupate_hub.readers.peft import READ, REFUSED, REFUSED_OPTIONS, REFUSED_STARTS
from tupate_hub.search.by_gain import UNFIT
from tupate_hub.search.notes import FEW_SHARED, NEAR_DUPLICATE
from tupate_hub.space import LEGACY_ORGANISATIONS, MODEL_ID

#: The kinds of tasks whose model classes the page names.
_KINDS = ("classification", "regression", "extractive_qa", "token_classification", "multiple_choice", "")


def reading_tables() -> dict[str, Any]:
    """Tables and thresholds of readers, names and notes as JSON values.

    Regular expressions are written in what Python and JavaScript have in common.
    """
    return {
        "roots": ROOTS.pattern,
        "heads": sorted(HEADS),
        "taskHeads": sorted(HEADS - LANGUAGE_HEADS),
        "read": list(READ),
        "refused": dict(REFUSED),
        "refusedOptions": dict(REFUSED_OPTIONS),
        "refusedStarts": list(REFUSED_STARTS),
        "modelId": MODEL_ID.pattern,
        "legacyOrganisations": sorted(LEGACY_ORGANISATIONS),
        "quantised": QUANTISED.pattern,
        "mirrors": sorted(MIRRORS),
        "byName": dict(BY_NAME),
        "widths": dict(WIDTHS),
    }


def judging_tables(similarity: str) -> dict[str, Any]:
    """From which scores on a note is given, which notes make a start unfit, and the model class of a kind of task."""
    return {
        "diverged": DIVERGED,
        "nearDuplicate": NEAR_DUPLICATE[similarity],
        "fewShared": FEW_SHARED,
        "rounding": ROUNDING,
        "tie": TIE,
        "unfit": sorted(UNFIT),
        "sigmas": SIGMAS,
        "classes": {kind: class_of_kind(kind) for kind in _KINDS},
    }
