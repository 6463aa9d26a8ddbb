"""LoRA of diffusion models, in the keys of sd-scripts, LyCORIS and three generations of diffusers; and numbered pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tupate_hub.embedding import Adapter
from tupate_hub.errors import FormatError
from tupate_hub.readers import detect, find_adapters, read_adapter
from tupate_hub.storage.safetensors import TensorFile

CONTAINERS = Path(__file__).parents[3] / "shared" / "containers"
beside = pytest.mark.skipif(not CONTAINERS.is_dir(), reason="needs the folder `shared` beside the checkout")

OUT, IN, RANK = 12, 10, 3
PLACE = "down_blocks.0.attentions.1.transformer_blocks.0.attn1"
KOHYA = "lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_attn1"


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


DOWN, UP = normal(RANK, IN), normal(OUT, RANK)


def saved(folder: Path, tensors: dict[str, np.ndarray], **metadata: str) -> Path:
    path = folder / "my_lora.safetensors"
    path.write_bytes(TensorFile(tensors, metadata).to_bytes())
    return path


def read(folder: Path, tensors: dict[str, np.ndarray], **metadata: str) -> Adapter:
    return read_adapter(saved(folder, tensors, **metadata), base="acme/tiny-sd")


def updates(adapter: Adapter) -> dict[str, np.ndarray]:
    return {block.name: block.scale * block.parts["B"] @ block.parts["A"] for block in adapter.blocks}


def alpha(value: float) -> np.ndarray:
    return np.array(value, np.float32)


#: The same update of the same two places in each spelling.
SPELLINGS: dict[str, tuple[tuple[str, str], str, str]] = {
    "sd-scripts": ((f"{KOHYA}_to_q", f"{KOHYA}_to_out_0"), ".lora_down.weight", ".lora_up.weight"),
    "LyCORIS's name": (
        (f"{KOHYA}_to_q".replace("lora_", "lycoris_", 1), f"{KOHYA}_to_out_0".replace("lora_", "lycoris_", 1)),
        ".lora_down.weight",
        ".lora_up.weight",
    ),
    "diffusers of old": (
        (f"{PLACE}.processor.to_q", f"{PLACE}.processor.to_out"),
        "_lora.down.weight",
        "_lora.up.weight",
    ),
    "diffusers between": ((f"unet.{PLACE}.to_q", f"unet.{PLACE}.to_out.0"), ".lora.down.weight", ".lora.up.weight"),
    "diffusers of today": ((f"unet.{PLACE}.to_q", f"unet.{PLACE}.to_out.0"), ".lora_A.weight", ".lora_B.weight"),
}


def spelled(spelling: str) -> dict[str, np.ndarray]:
    places, down, up = SPELLINGS[spelling]
    return {f"{place}{end}": array for place in places for end, array in ((down, DOWN), (up, UP))}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_is_the_same_update_of_the_same_places(spelling: str, tmp_path: Path) -> None:
    adapter = read(tmp_path, spelled(spelling))
    assert (adapter.method, adapter.layout, adapter.settings["r"]) == ("lora", "diffusion", RANK)
    assert [block.name for block in adapter.blocks] == [f"unet.{PLACE}.to_out.0", f"unet.{PLACE}.to_q"]
    for update in updates(adapter).values():
        np.testing.assert_allclose(update, UP @ DOWN, rtol=1e-6)
    assert adapter.notes == ("2 of 2 places have no alpha; r is taken for it, as diffusers does.",)


def test_text_encoders_have_their_places(tmp_path: Path) -> None:
    written = {
        "lora_te_text_model_encoder_layers_3_self_attn_q_proj.lora_": "text_encoder.text_model.encoder.layers.3.self_attn.q_proj",
        "lora_te2_text_model_encoder_layers_3_mlp_fc1.lora_": "text_encoder_2.text_model.encoder.layers.3.mlp.fc1",
        "text_encoder.text_model.encoder.layers.4.self_attn.v_proj.lora_linear_layer.": (
            "text_encoder.text_model.encoder.layers.4.self_attn.v_proj"
        ),
    }
    tensors = {f"{key}{half}.weight": array for key in written for half, array in (("down", DOWN), ("up", UP))}
    assert {block.name for block in read(tmp_path, tensors).blocks} == set(written.values())


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("lora_unet_input_blocks_4_1_transformer_blocks_0_ff_net_0_proj", "unet.input_blocks.4.1.transformer_blocks.0.ff.net.0.proj"),
        ("lora_unet_mid_block_resnets_0_time_emb_proj", "unet.mid_block.resnets.0.time_emb_proj"),
        ("lora_unet_up_blocks_1_resnets_0_conv_shortcut", "unet.up_blocks.1.resnets.0.conv_shortcut"),
        ("lora_unet_double_blocks_7_img_attn_qkv", "transformer.double_blocks.7.img_attn.qkv"),
        ("lora_unet_blocks_0_cross_attn_k_proj", "transformer.blocks.0.cross_attn.k_proj"),
        ("lycoris_up_blocks_1_resnets_0_conv1", "unet.up_blocks.1.resnets.0.conv1"),
        ("lycoris_transformer_blocks_3_attn_to_q", "transformer.transformer_blocks.3.attn.to_q"),
        ("lora_transformer_single_transformer_blocks_0_proj_mlp", "transformer.single_transformer_blocks.0.proj_mlp"),
    ],
)  # fmt: skip
def test_underscores_become_dots_where_the_model_has_them(written: str, name: str, tmp_path: Path) -> None:
    tensors = {f"{written}.lora_down.weight": DOWN, f"{written}.lora_up.weight": UP}
    assert [block.name for block in read(tmp_path, tensors).blocks] == [name]


def test_fluxs_places_have_one_name_in_three_programs(tmp_path: Path) -> None:
    """sd-scripts, AI-toolkit and XLabs, whose first stream is the image's."""
    for down, up in (
        (
            "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight",
            "lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight",
        ),
        (
            "diffusion_model.double_blocks.0.img_attn.qkv.lora_A.weight",
            "diffusion_model.double_blocks.0.img_attn.qkv.lora_B.weight",
        ),
        ("double_blocks.0.processor.qkv_lora1.down.weight", "double_blocks.0.processor.qkv_lora1.up.weight"),
    ):
        (block,) = read(tmp_path, {down: DOWN, up: UP}).blocks
        assert block.name == "transformer.double_blocks.0.img_attn.qkv"


# --- alpha ---------------------------------------------------------------------------------------------------------


def test_alpha_in_tensors(tmp_path: Path) -> None:
    tensors = {**spelled("sd-scripts"), f"{KOHYA}_to_q.alpha": alpha(1.5)}
    adapter = read(tmp_path, tensors, ss_base_model_version="sd_v1", ss_sd_model_name="acme/tiny-sd-1")
    found = updates(adapter)
    np.testing.assert_allclose(found[f"unet.{PLACE}.to_q"], UP @ DOWN / 2, rtol=1e-6)
    np.testing.assert_allclose(found[f"unet.{PLACE}.to_out.0"], UP @ DOWN, rtol=1e-6)
    assert adapter.settings["base_version"] == "sd_v1" and adapter.notes[0].startswith("1 of 2 places")
    assert read_adapter(tmp_path / "my_lora.safetensors").base == "acme/tiny-sd-1"


def test_a_file_is_no_base_model(tmp_path: Path) -> None:
    path = saved(tmp_path, spelled("sd-scripts"), ss_sd_model_name="v1-5-pruned.safetensors")
    assert read_adapter(path).base is None


SAID: dict[str, tuple[dict[str, Any], float, float]] = {
    "one for the part": ({"unet.lora_alpha": 6, "unet.r": 3}, 2, 2),
    "by place": ({"unet.lora_alpha": 6, "unet.alpha_pattern": {"attn1.to_q": 9}}, 3, 2),
    "rank-stabilised": ({"unet.lora_alpha": 6, "unet.use_rslora": True}, 6 / 3**0.5, 6 / 3**0.5),
    "of another part": ({"transformer.lora_alpha": 6}, 1, 1),
}


@pytest.mark.parametrize("case", SAID)
def test_alpha_in_the_metadata(case: str, tmp_path: Path) -> None:
    said, query, out = SAID[case]
    adapter = read(tmp_path, spelled("diffusers of today"), lora_adapter_metadata=json.dumps(said))
    scales = {block.name.removeprefix(f"unet.{PLACE}."): block.scale for block in adapter.blocks}
    assert scales == pytest.approx({"to_q": query, "to_out.0": out})
    assert bool(adapter.notes) == (case == "of another part")


BAD_METADATA = {
    "no JSON": ("{", "not JSON"),
    "an alpha that is none": (json.dumps({"unet.lora_alpha": "6"}), "not a number"),
    "a hostile pattern": (json.dumps({"unet.alpha_pattern": {"(a*)*$": 3}}), "is not read"),
}


@pytest.mark.parametrize("case", BAD_METADATA)
def test_metadata_that_cannot_be_used_get_a_sentence(case: str, tmp_path: Path) -> None:
    written, sentence = BAD_METADATA[case]
    with pytest.raises(FormatError, match=sentence):
        read(tmp_path, spelled("diffusers of today"), lora_adapter_metadata=written)


# --- LyCORIS -------------------------------------------------------------------------------------------------------


def test_a_convolution_with_a_third_factor(tmp_path: Path) -> None:
    middle = normal(RANK, RANK, 3, 3)
    place = "lora_unet_up_blocks_1_resnets_0_conv1"
    tensors = {
        f"{place}.lora_down.weight": DOWN[:, :, None, None],
        f"{place}.lora_mid.weight": middle,
        f"{place}.lora_up.weight": UP[:, :, None, None],
        f"{place}.alpha": alpha(6),
    }
    expected = 2 * np.einsum("op,pqkl,qi->oikl", UP, middle, DOWN)
    (found,) = updates(read(tmp_path, tensors)).values()
    np.testing.assert_allclose(found, expected.reshape(OUT, -1), rtol=1e-4, atol=1e-5)


def test_loha_and_lokr_of_convolutions_are_what_their_definitions_say(tmp_path: Path) -> None:
    core = normal(2, 2, 3, 3)
    w1, w2 = (normal(2, OUT, seed=1), normal(2, IN, seed=2)), (normal(2, OUT, seed=3), normal(2, IN, seed=4))
    loha = {
        "hada_w1_a": w1[0],
        "hada_w1_b": w1[1],
        "hada_w2_a": w2[0],
        "hada_w2_b": w2[1],
        "hada_t1": core,
        "hada_t2": core,
    }
    left, right = normal(3, 5, seed=5), normal(4, 2, 3, 3, seed=6)
    places = ("lycoris_unet_up_blocks_1_resnets_0_conv1", "lycoris_unet_up_blocks_1_resnets_0_conv2")
    tensors = {f"{places[0]}.{part}": array for part, array in loha.items()} | {f"{places[0]}.alpha": alpha(1)}
    tensors |= {f"{places[1]}.lokr_w1": left, f"{places[1]}.lokr_w2": right, f"{places[1]}.alpha": alpha(7)}
    found = updates(read(tmp_path, tensors))
    halves = [np.einsum("ijkl,jr,ip->prkl", core, b, a) for a, b in (w1, w2)]
    expected = (halves[0] * halves[1] / 2).reshape(OUT, -1)
    np.testing.assert_allclose(found["unet.up_blocks.1.resnets.0.conv1"], expected, rtol=1e-4, atol=1e-5)
    whole = np.kron(left[:, :, None, None], right).reshape(OUT, -1)  # both whole: the scale is 1 whatever alpha says
    np.testing.assert_allclose(found["unet.up_blocks.1.resnets.0.conv2"], whole, rtol=1e-5, atol=1e-6)


LYCORIS: dict[str, tuple[str, dict[str, Any]]] = {
    "LoCon": ("locon.LoConModule", {}),
    "LoHa": ("loha.LohaModule", {}),
    "LoKr": ("lokr.LokrModule", {}),
    "LoKr, whole": ("lokr.LokrModule", {"full_matrix": True}),
    "LoKr, both factored": ("lokr.LokrModule", {"decompose_both": True, "factor": 4}),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", LYCORIS)
@pytest.mark.parametrize("kernel", [0, 3])
def test_an_update_is_what_lycoris_adds(case: str, kernel: int, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    modules = pytest.importorskip("lycoris.modules")
    kind, options = LYCORIS[case]
    torch.manual_seed(0)
    of = torch.nn.Conv2d(24, 32, kernel) if kernel else torch.nn.Linear(24, 32)
    made = getattr(getattr(modules, kind.split(".")[0]), kind.split(".")[1])
    module = made("lora_unet_mid_block_x", of, lora_dim=2, alpha=3, use_tucker=bool(kernel), **options)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    tensors = {key: value.detach().numpy() for key, value in module.state_dict().items() if "org_module" not in key}
    adapter = read(
        tmp_path, {f"lora_unet_mid_block_x.{key}": np.ascontiguousarray(value) for key, value in tensors.items()}
    )
    (found,) = updates(adapter).values()
    # What its forward pass adds: get_diff_weight of 4.1 multiplies LoHa and LoKr by the scale a second time.
    added = module.get_weight(of.weight.shape) if "Ha" in case or "Kr" in case else module.get_diff_weight()[0]
    expected = added.detach().numpy().reshape(32, -1)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


# --- what is left out, and refused -----------------------------------------------------------------------------------


def test_magnitudes_and_biases_are_left_out(tmp_path: Path) -> None:
    extra = {f"{KOHYA}_to_q.dora_scale": normal(OUT, 1), f"{KOHYA}_to_k.diff_b": normal(OUT), "lora_unet.x": normal(3)}
    adapter = read(tmp_path, {**spelled("sd-scripts"), **extra})
    assert adapter.left_out == {"DoRA magnitudes": 1, "biases": 1, "other tensors": 1}
    assert any("magnitudes" in note for note in adapter.notes)


Q = f"{KOHYA}_to_q"
REFUSED: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "a full difference": ({f"{KOHYA}_to_v.diff": normal(OUT, IN)}, "no low-rank update"),
    "OFT": ({f"{KOHYA}_to_v.oft_blocks": normal(2, 4, 4)}, "no low-rank update"),
    "half a pair": ({f"{KOHYA}_to_v.lora_up.weight": UP}, "without its lora_A"),
    "shapes that do not fit": ({f"{Q}.lora_up.weight": normal(OUT, RANK + 1)}, "do not fit together"),
    "two alphas": ({f"{Q}.alpha": normal(2)}, "not one number"),
    "an alpha that is NaN": ({f"{Q}.alpha": alpha(np.nan)}, "not one number"),
    "two spellings of one place": ({f"unet.{PLACE}.to_q.lora.down.weight": DOWN}, "two tensors for one place"),
    "a third factor that does not fit": ({f"{Q}.lora_mid.weight": normal(2, 2, 3, 3)}, "lora_mid that does not fit"),
    "integers": ({f"{Q}.lora_up.weight": np.ones((OUT, RANK), np.int8)}, "only floating-point"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_gets_a_sentence(case: str, tmp_path: Path) -> None:
    tensors, sentence = REFUSED[case]
    with pytest.raises(FormatError, match=sentence):
        read(tmp_path, {**spelled("sd-scripts"), **tensors})


@pytest.mark.parametrize("shape", [(1, 60_000, 1, 1), (1, 400_000, 1, 1)])
def test_a_third_factor_cannot_make_any_amount(shape: tuple[int, ...], tmp_path: Path) -> None:
    """A of (1, n) and a core of (1, 1, k) would make n·k numbers of n + k."""
    tensors = {
        f"{Q}.lora_down.weight": np.ones(shape, np.float32),
        f"{Q}.lora_mid.weight": np.ones((1, 1, shape[1]), np.float32),
        f"{Q}.lora_up.weight": np.ones((4, 1, 1, 1), np.float32),
    }
    with pytest.raises(FormatError, match="too many numbers"):
        read(tmp_path, tensors)


@pytest.mark.parametrize("key", ["base_model.model.model.layers.0.self_attn.q_proj", "transformer.h.0.attn.c_attn"])
def test_peft_keys_without_a_configuration_stay_refused(key: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="neither method nor scale"):
        read(tmp_path, {f"{key}.lora_A.weight": DOWN, f"{key}.lora_B.weight": UP})


# --- strangers' files ------------------------------------------------------------------------------------------------


@beside
@pytest.mark.parametrize("folder", ["wellCh4n__pokemon-diffusers", "timohavdk__sd-lora", "timohavdk__sd-lora__kohya"])
def test_strangers_files(folder: str) -> None:
    (path,) = find_adapters(CONTAINERS / folder)
    assert detect(path.parent).layout == "diffusion"
    adapter = read_adapter(path, base="runwayml/stable-diffusion-v1-5")
    assert len(adapter.blocks) == 128 and adapter.settings["r"] == 4
    assert {block.scale for block in adapter.blocks} == {1.0} and not adapter.left_out
    names = [block.name for block in adapter.blocks]
    assert names[0] == "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k"
    other = read_adapter(next((CONTAINERS / "timohavdk__sd-lora").iterdir()), base="x/y")
    assert names == [block.name for block in other.blocks]
    assert any("from a conversion that failed" in note for note in adapter.notes) == ("kohya" in folder)


@beside
def test_numbered_pairs_find_the_same_task_at_every_rank() -> None:
    """Cosines of the updates, computed here by forming them; the README of the files has them from .25 to .45."""
    files = find_adapters(CONTAINERS)
    formed = {}
    for rank in (2, 4, 6, 8, 16):
        path = next(path for path in files if path.name == f"lora_rank{rank}.safetensors")
        adapter = read_adapter(path, base="acme/sam")
        assert (adapter.layout, len(adapter.blocks), adapter.settings["r"]) == ("numbered", 24, rank)
        assert any("neither places nor a scale" in note for note in adapter.notes)
        sample = [updates(adapter)[f"pair.{number}"].ravel() for number in range(0, 24, 4)]
        formed[rank] = np.concatenate(sample) / np.linalg.norm(np.concatenate(sample))
    cosines = [float(formed[x] @ formed[y]) for x in formed for y in formed if x < y]
    assert min(cosines) > 0.2 and max(cosines) < 0.6


def test_half_a_numbered_pair_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="without its lora_B: 'pair 1'"):
        read(tmp_path, {"w_a_000": DOWN, "w_b_000": UP, "w_a_001": DOWN})


def test_what_stands_beside_numbered_pairs_is_counted(tmp_path: Path) -> None:
    adapter = read(tmp_path, {"w_a_000": DOWN, "w_b_000": UP, "fc_768in_2out": normal(2, 8)})
    assert adapter.left_out == {"other tensors": 1} and [block.name for block in adapter.blocks] == ["pair.0"]
