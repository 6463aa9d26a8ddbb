"""BlockPattern: a part of a name, and every so manieth layer."""

from __future__ import annotations

import pytest

from tupate_hub.collect.block_pattern import BlockPattern
from tupate_hub.errors import TupateHubError

NAMES = [f"model.layers.{layer}.self_attn.{place}.lora_A.weight" for layer in range(13) for place in ("q", "v_proj")]


@pytest.mark.parametrize(
    ("written", "layers"),
    [("v_proj", range(13)), ("v_proj/4", (0, 4, 8, 12)), ("layers.1*v_proj", (1, 10, 11, 12)), ("v_proj/1", range(13))],
)
def test_which_layers(written: str, layers: range) -> None:
    pattern = BlockPattern.parse(written)
    assert [name for name in NAMES if pattern.fits(name)] == [
        f"model.layers.{layer}.self_attn.v_proj.lora_A.weight" for layer in layers
    ]
    assert BlockPattern.parse(str(pattern)) == pattern


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("lora_te_text_model_encoder_layers_8_self_attn_v_proj.lora_down.weight", True),
        ("lora_te_text_model_encoder_layers_9_self_attn_v_proj.lora_down.weight", False),
        ("blk.4.attn_v_proj.weight", True),
        ("v_proj", False),
        (f"layers.{'9' * 400}.v_proj", False),
    ],
)
def test_names_of_other_libraries(name: str, fits: bool) -> None:
    assert BlockPattern.parse("v_proj/4").fits(name) is fits


@pytest.mark.parametrize(
    "written", ["", "/4", "value/", "value/0", "value/x", "value/-1", "value/4/2", "value/²", "value/5000"]
)
def test_what_says_no_blocks(written: str) -> None:
    with pytest.raises(TupateHubError, match="does not say which blocks"):
        BlockPattern.parse(written)
