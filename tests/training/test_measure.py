"""measure_moments on the toy base model, against the inputs that the model's own weights are given."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toys import FILLERS, LAYERS, WIDTH

from tupate_hub.compare.input_covariance import InputCovariance, parse_input_covariance
from tupate_hub.errors import FormatError
from tupate_hub.training.measure import measure_input_covariance, probe_text
from tupate_hub.training.model import base_sha256

PLACES = [f"encoder.layer.{n}.attention.self.{kind}" for n in range(LAYERS) for kind in ("query", "key", "value")]
OUTPUTS = [f"encoder.layer.{n}.attention.output.dense" for n in range(LAYERS)]
#: Passages of very different lengths, so that most of a batch is padding, and more than one batch of them.
TEXT = [" ".join(FILLERS[start % 7 : start % 7 + 1 + start % 5]) for start in range(20)]


@pytest.fixture(scope="module")
def measured(base: Path) -> InputCovariance:
    return measure_input_covariance(base, "acme/toy", [*PLACES, *OUTPUTS], TEXT)


@pytest.fixture(scope="module")
def seen(base: Path) -> dict[str, np.ndarray]:
    """The inputs of every Linear of the model, one passage at a time, so that nothing is padded: (tokens, in)."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(str(base)), AutoModel.from_pretrained(str(base)).eval()
    found: dict[str, list[torch.Tensor]] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(
                lambda _, given, __, name=name: found.setdefault(name, []).append(given[0].reshape(-1, given[0].shape[-1]))
            )  # fmt: skip
    with torch.inference_mode():
        for passage in TEXT:
            model(**tokenizer(passage, return_tensors="pt"))
    return {name: torch.cat(inputs).double().numpy() for name, inputs in found.items()}


def moment(inputs: np.ndarray) -> np.ndarray:
    return np.asarray(inputs.T @ inputs / len(inputs))


# --- what is measured ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*PLACES, *OUTPUTS])
def test_a_moment_is_that_of_the_inputs(name: str, measured: InputCovariance, seen: dict[str, np.ndarray]) -> None:
    found = measured.inputs[measured.place[name]]
    assert found.shape == (WIDTH, WIDTH)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, moment(seen[name]), rtol=1e-4, atol=1e-4)


def test_query_key_and_value_share_an_input(measured: InputCovariance) -> None:
    assert set(measured.place) == {*PLACES, *OUTPUTS}
    for layer in range(LAYERS):
        (shared,) = {measured.place[name] for name in PLACES if f"layer.{layer}." in name}
        assert shared.startswith(f"encoder.layer.{layer}.attention.self.")
    assert len(measured.inputs) == 2 * LAYERS
    assert {measured.place[name] for name in OUTPUTS} == set(OUTPUTS)


def test_tokens_are_counted_without_padding(measured: InputCovariance, tokenizer: Any) -> None:
    assert measured.tokens == sum(len(tokenizer(passage)["input_ids"]) for passage in TEXT)


def test_passages_are_cut_at_what_the_model_reads(base: Path) -> None:
    assert measure_input_covariance(base, "acme/toy", PLACES[:1], ["river " * 60]).tokens == 62
    assert measure_input_covariance(base, "acme/toy", PLACES[:1], ["river " * 90]).tokens == 64


def test_the_order_of_the_text_hardly_matters(base: Path, measured: InputCovariance) -> None:
    again = measure_input_covariance(base, "acme/toy", [*PLACES, *OUTPUTS], TEXT[::-1])
    assert again.tokens == measured.tokens
    for name, found in measured.inputs.items():
        np.testing.assert_allclose(again.inputs[name], found, rtol=1e-3, atol=1e-4)


def test_the_base_model_is_named(base: Path, measured: InputCovariance) -> None:
    assert (measured.base, measured.base_sha256) == ("acme/toy", base_sha256(base))


def test_a_rerun_gives_the_same_bytes(base: Path, measured: InputCovariance) -> None:
    again = measure_input_covariance(base, "acme/toy", [*PLACES, *OUTPUTS], TEXT)
    assert again.to_bytes() == measured.to_bytes()


def test_what_was_measured_is_a_second_moment(measured: InputCovariance) -> None:
    found = parse_input_covariance(measured.to_bytes(), "x")
    for name in (*PLACES, *OUTPUTS):
        root = found.root(name)
        assert np.isfinite(root).all()
        c = found.inputs[found.place[name]]
        np.testing.assert_allclose(np.trace(root @ root.T), np.trace(c) * 1.01, rtol=1e-3)


def test_blank_passages_do_not_count(base: Path, measured: InputCovariance) -> None:
    padded = [line for passage in TEXT for line in ("", passage, "  \t")]
    assert measure_input_covariance(base, "acme/toy", [*PLACES, *OUTPUTS], padded).to_bytes() == measured.to_bytes()


def test_a_pooler_reads_one_vector_a_passage(base: Path, seen: dict[str, np.ndarray]) -> None:
    found = measure_input_covariance(base, "acme/toy", ["pooler.dense", PLACES[0]], TEXT)
    assert found.place["pooler.dense"] == "pooler.dense"
    np.testing.assert_allclose(found.inputs["pooler.dense"], moment(seen["pooler.dense"]), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.inputs[PLACES[0]], moment(seen[PLACES[0]]), rtol=1e-4, atol=1e-4)


def test_the_weights_of_a_gpt2_are_measured_too(tmp_path: Path, base: Path) -> None:
    """Its weights are transposed and its tokenizer has no padding: neither matters to what goes in."""
    from transformers import GPT2Config, GPT2Model

    folder = Path(shutil.copytree(base, tmp_path / "gpt2"))
    torch.manual_seed(5)
    config = GPT2Config(vocab_size=200, n_embd=16, n_layer=1, n_head=2, n_positions=64)
    GPT2Model(config).save_pretrained(str(folder))
    found = measure_input_covariance(folder, "acme/gpt2", ["h.0.attn.c_attn", "h.0.mlp.c_proj"], TEXT)
    assert {name: c.shape for name, c in found.inputs.items()} == {
        "h.0.attn.c_attn": (16, 16),
        "h.0.mlp.c_proj": (64, 64),
    }


def test_progress_goes_over_all_batches(base: Path) -> None:
    lengths: list[int] = []

    def watched(batches: Sequence[list[str]]) -> Iterable[list[str]]:
        for batch in batches:
            lengths.append(len(batch))
            yield batch

    measure_input_covariance(base, "acme/toy", PLACES[:1], TEXT, progress=watched)
    assert sum(lengths) == len(TEXT) and len(lengths) > 1


# --- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocks", [[], ["nowhere.query"], ["encoder.layer.0"], ["embeddings.word_embeddings"], [""]])
def test_blocks_that_the_model_has_not(blocks: list[str], base: Path) -> None:
    with pytest.raises(FormatError, match="none of the space's weights"):
        measure_input_covariance(base, "acme/toy", blocks, TEXT)


def test_blocks_that_the_model_has_beside_others(base: Path) -> None:
    found = measure_input_covariance(base, "acme/toy", [PLACES[0], "nowhere.query"], TEXT)
    assert set(found.place) == {PLACES[0]}
    with pytest.raises(FormatError, match="Nothing is known"):
        found.root("nowhere.query")


@pytest.mark.parametrize("text", [[], [""], [" ", "\n"]])
def test_a_text_without_words(text: list[str], base: Path) -> None:
    with pytest.raises(FormatError, match="text to measure on is empty"):
        measure_input_covariance(base, "acme/toy", PLACES, text)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"has no model\.safetensors"):
        measure_input_covariance(tmp_path, "acme/toy", PLACES, TEXT)


@pytest.mark.parametrize(
    ("file", "content"),
    [("config.json", b"{"), ("config.json", b"{}"), ("config.json", None), ("model.safetensors", b"x" * 100)],
)
def test_a_damaged_model(file: str, content: bytes | None, tmp_path: Path, base: Path) -> None:
    folder = Path(shutil.copytree(base, tmp_path / "damaged"))
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    with pytest.raises(FormatError, match=r"not a base model|header claims"):
        measure_input_covariance(folder, "acme/toy", PLACES, TEXT)


def test_an_encoder_and_decoder(tmp_path: Path, base: Path) -> None:
    from transformers import T5Config, T5Model

    folder = Path(shutil.copytree(base, tmp_path / "t5"))
    config = T5Config(vocab_size=200, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    T5Model(config).save_pretrained(str(folder))
    with pytest.raises(FormatError, match="an encoder and a decoder"):
        measure_input_covariance(folder, "acme/t5", ["encoder.block.0.layer.0.SelfAttention.q"], TEXT)


# --- the probe text --------------------------------------------------------------------------------------------


def test_the_probe_text_is_many_different_sentences() -> None:
    text = probe_text()
    assert len(text) == len(set(text)) >= 100
    assert all(one == one.strip() and 20 < len(one) < 400 for one in text)
    assert sum(one.endswith("?") for one in text) >= 5


def test_the_probe_text_is_the_default(base: Path, tokenizer: Any) -> None:
    found = measure_input_covariance(base, "acme/toy", PLACES[:1])
    assert found.tokens == sum(min(64, len(tokenizer(one)["input_ids"])) for one in probe_text())
