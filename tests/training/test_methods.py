"""Tuning methods: what each puts into the base model, and the error for an unknown one."""

import pytest
import torch

from tupate_hub.errors import UnknownName
from tupate_hub.training.methods import METHODS, Method, get_method
from tupate_hub.training.model import build_model, is_head, tuned_state


def test_the_project_tunes_lora_on_queries_and_values():
    lora = get_method("lora")
    assert lora.name == "lora"
    assert dict(lora.settings) == {"r": 8, "alpha": 16, "targets": ["query", "value"]}
    assert METHODS["lora"] is lora


def test_an_unknown_method_lists_the_known_ones():
    with pytest.raises(UnknownName, match="'houlsby'") as caught:
        get_method("houlsby")
    assert "lora" in caught.value.hint


def test_the_configuration_has_what_the_settings_say():
    config = METHODS["lora"].config(r=3, alpha=6, targets=["key", "value"])
    assert (config.r, config.alpha, config.attn_matrices) == (3, 6, ["k", "v"])
    assert (config.dropout, config.selfattn_lora, config.intermediate_lora, config.output_lora) == (
        0,
        True,
        False,
        False,
    )


@pytest.mark.parametrize("targets", [["query"], ["key", "value"], ["query", "key", "value"]])
def test_the_targets_are_the_places_that_change(base, load, targets):
    lora = Method("lora", METHODS["lora"].config, {"r": 2, "alpha": 4, "targets": targets})
    tuned = tuned_state(build_model(base, load("toy_classes"), lora, 0))
    assert {name.split(".self.")[1].split(".")[0] for name in tuned if not is_head(name)} == set(targets)


def test_the_rank_is_the_settings_rank(base, load):
    lora = Method("lora", METHODS["lora"].config, {"r": 3, "alpha": 6, "targets": ["query"]})
    state = tuned_state(build_model(base, load("toy_classes"), lora, 0))
    shapes = {name[-1]: tuple(value.shape) for name, value in state.items() if not is_head(name)}
    assert shapes == {"A": (3, 32), "B": (32, 3)}
    assert all(torch.count_nonzero(value) == 0 for name, value in state.items() if name.endswith("lora_B"))
