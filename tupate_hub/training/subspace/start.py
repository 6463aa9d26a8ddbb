"""Start: the parameters that every run of a method starts from, as an embedding of no task."""

from __future__ import annotations

from pathlib import Path

from tupate_hub.data.dataset import TaskData
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.space import Space
from tupate_hub.training.methods import get_method, saved_config
from tupate_hub.training.model import architecture, base_sha256, build_model, is_head, tuned_state
from tupate_hub.training.record import read_tensors
from tupate_hub.training.result import Layout

_ANY = TaskData("start", "classification", "accuracy", ("no", "yes"), (), (), (), {}, "")


def start_of(base: Path, method: str, base_id: str, init_seed: int = 0) -> TaskEmbedding:
    """What `init_seed` draws for a method on the base model in the folder `base`; errors as in `build_model`."""
    chosen = get_method(method)
    model = build_model(base, _ANY, chosen, init_seed)
    tensors = {name: value.numpy() for name, value in tuned_state(model).items() if not is_head(name)}
    layout = Layout(_ANY.name, chosen.name, saved_config(model), architecture(model))
    adapter = read_tensors(tensors, layout)
    facts = {
        "settings": {**adapter.settings, **chosen.settings, "init_seed": init_seed},
        "architecture": layout.architecture,
        "base_sha256": base_sha256(base),
    }
    return TaskEmbedding(_ANY.name, Space(base_id, chosen.name), adapter.blocks, facts)
