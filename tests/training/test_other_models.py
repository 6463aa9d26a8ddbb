"""Base models beside BERT: tuned, exported and loaded by the libraries, tiny random ones of every type in the table."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from loading import quiet_libraries, run_readme, write
from tiny_bases import BASES, make_tiny_base
from tiny_models import shake

from tupate_hub.architectures import ARCHITECTURES, DECODER, ENCODER_DECODER, require_tunable
from tupate_hub.embedding import parse_embedding, read_embedding
from tupate_hub.errors import FormatError
from tupate_hub.export import export
from tupate_hub.runrecord import Regime
from tupate_hub.training.basemodel import BaseModel
from tupate_hub.training.batches import collate
from tupate_hub.training.design import SIZES, count
from tupate_hub.training.features import encode, encode_windows
from tupate_hub.training.methods import METHODS, get_method
from tupate_hub.training.model import build_model, is_head, load_tokenizer, tuned_state
from tupate_hub.training.predictors.labelled import labelled_states
from tupate_hub.training.predictors.subject import base_encoder
from tupate_hub.training.record import to_embedding
from tupate_hub.training.tuner import tune
from tupate_hub.training.warmstart import method_of, starting_tensors

__all__ = ["quiet_libraries"]

BASE_ID = "acme/tiny"
REGIME = Regime(steps=2, batch_size=8, learning_rate=1e-2, evaluations=1, max_length=48)
EVERYWHERE = {"r": 3, "targets": ["query", "key", "value", "intermediate", "output"]}
#: Each puts its parameters into other places; together they are in all that the methods know.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("lora", EVERYWHERE),
    "ia3": ("ia3", {}),
    "houlsby": ("adapter-houlsby", {"r": 3}),
    "mam": ("mam", {"tokens": 3, "r": 2}),
    "on attention": ("parallel", {"r": 3, "on": "attention"}),
}
SIX = ("roberta", "distilbert", "electra", "gpt2", "t5", "bart")
KIND_OF = {
    "toy_classes": "classification",
    "toy_numbers": "regression",
    "toy_spans": "extractive_qa",
    "toy_choices": "multiple_choice",
    "toy_tags": "token_classification",
}


@pytest.fixture(scope="session")
def base_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`base_of("gpt2")` is the folder of a tiny GPT-2; not to be written to."""
    return cache(lambda kind: make_tiny_base(tmp_path_factory.mktemp("bases") / f"tiny-{kind}", kind))


def possible(kind: str, method: str) -> bool:
    return method not in ARCHITECTURES[kind].without


def inputs(base: Path, data: Any, texts: int = 3) -> dict[str, torch.Tensor]:
    """A batch of texts of several lengths."""
    tokenizer = load_tokenizer(base)
    features = encode(tokenizer, data.kind, data.train[:texts], 48)
    batch = collate(features, tokenizer.pad_token_id)
    return {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in batch}


def states(model: Any, inside: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The last states of a part of a model, zero at the padding, while the whole runs."""
    seen: list[torch.Tensor] = []
    hook = inside.register_forward_hook(lambda module, given, found: seen.append(found.last_hidden_state))
    with torch.no_grad():
        model(**batch)
    hook.remove()
    return seen[0] * batch["attention_mask"][..., None]


# --- tuned and loaded -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", [kind for kind in BASES if kind in ARCHITECTURES])
def test_the_libraries_give_the_outputs_of_the_tuned_model(
    kind: str, case: str, base_of: Any, load: Any, tmp_path: Path
) -> None:
    name, settings = CASES[case]
    if not possible(kind, name):
        with pytest.raises(FormatError, match=f"{name} cannot be put into a {kind} model"):
            tune(base_of(kind), load("toy_classes"), get_method(name, **settings), REGIME)
        return
    base, data, method = base_of(kind), load("toy_classes"), get_method(name, **settings)
    result = tune(base, data, method, REGIME)
    embedding = parse_embedding(to_embedding(result, BASE_ID).to_bytes("float32"), "it")
    model = build_model(base, data, method, REGIME.init_seed).eval()
    batch = inputs(base, data)
    untouched = states(model, model.base_model, batch)
    model.load_state_dict({key: torch.tensor(value) for key, value in result.tensors.items()}, strict=False)
    expected = states(model, model.base_model, batch)
    close = 2e-5 * max(1.0, float(expected.abs().max()))  # float32 in another order
    assert float((expected - untouched).abs().max()) > 50 * close

    loaded = run_readme(write(tmp_path / "adapters", export(embedding, "adapters")), base, BASE_ID)
    torch.testing.assert_close(states(loaded, loaded.base_model, batch), expected, atol=close, rtol=0)
    if name in ("lora", "ia3"):
        loaded = run_readme(write(tmp_path / "peft", export(embedding, "peft")), base, BASE_ID)
        whole = loaded.base_model.model
        inside = getattr(whole, whole.base_model_prefix)
        torch.testing.assert_close(states(loaded, inside, batch), expected, atol=close, rtol=0)


@pytest.mark.parametrize("kind", ["distilbert", "gpt2", "llama", "t5", "bart"])
def test_peft_answers_questions_as_the_tuned_model_does(kind: str, base_of: Any, load: Any, tmp_path: Path) -> None:
    """The models that answer questions have the encoder elsewhere; LoRA in the wrong place would be left out in silence."""
    base, data, method = base_of(kind), load("toy_spans"), get_method("lora")
    embedding = to_embedding(tune(base, data, method, REGIME), BASE_ID)
    loaded = run_readme(write(tmp_path / "peft", export(embedding, "peft")), base, BASE_ID)
    placed = {name: value for name, value in loaded.named_parameters() if ".lora_B." in name}
    assert len(placed) == len(embedding.blocks)
    assert all(value.any() for value in placed.values())
    batch = inputs(base, data)
    with torch.no_grad():
        assert loaded(**batch).start_logits.shape == batch["input_ids"].shape


@pytest.mark.parametrize("method", ["lora", "mam", "bitfit", "prompt"])
@pytest.mark.parametrize("kind", [kind for kind in BASES if kind in ARCHITECTURES])
def test_a_text_does_not_see_the_padding_of_its_batch(kind: str, method: str, base_of: Any, load: Any) -> None:
    if not possible(kind, method):
        return
    base, data = base_of(kind), load("toy_classes")
    model = build_model(base, data, get_method(method), 0).eval()
    shake(value for value in model.parameters() if value.requires_grad)
    batch = inputs(base, data, 8)
    lengths = batch["attention_mask"].sum(1)
    short = int(lengths.argmin())
    assert int(lengths[short]) < int(lengths.max())
    with torch.no_grad():
        together = model(**batch).logits[short]
        alone = model(**{name: value[short : short + 1, : lengths[short]] for name, value in batch.items()}).logits[0]
    torch.testing.assert_close(together, alone, atol=2e-5 * max(1.0, float(alone.abs().max())), rtol=0)


@pytest.mark.parametrize("task", KIND_OF)
@pytest.mark.parametrize("kind", SIX)
def test_every_kind_of_task_is_tuned_or_refused(kind: str, task: str, base_of: Any, load: Any) -> None:
    def run() -> Any:
        return tune(base_of(kind), load(task), get_method("lora", r=2), REGIME)

    head_less = {DECODER: {"toy_choices"}, ENCODER_DECODER: {"toy_choices", "toy_tags"}}
    if task in head_less.get(ARCHITECTURES[kind].form, ()):
        with pytest.raises(FormatError, match=f"A {kind} model cannot be tuned for {KIND_OF[task]}"):
            run()
        return
    result = run()
    assert result.record.kind == KIND_OF[task]
    assert all(array.any() for array in result.tensors.values())  # every part has learned


def test_the_table_is_the_library_s(load: Any) -> None:
    """The library's classes say which heads they have."""
    import adapters
    from adapters.models.auto.adapter_model import ADAPTER_MODEL_MAPPING_NAMES

    theirs = {
        "classification": "classification",
        "regression": "classification",
        "extractive_qa": "question_answering",
        "multiple_choice": "multiple_choice",
        "token_classification": "tagging",
    }
    for kind in ARCHITECTURES:
        heads = getattr(adapters, ADAPTER_MODEL_MAPPING_NAMES[kind]).head_types
        for ours, head in theirs.items():
            try:
                require_tunable({"model_type": kind}, "adapter", ours)
                can = True
            except FormatError:
                can = False
            assert can == (head in heads), (kind, ours)
    left = set(ADAPTER_MODEL_MAPPING_NAMES) - set(ARCHITECTURES)
    assert left == {"beit", "bert-generation", "clip", "vit", "whisper", "xmod"}


# --- sizes, warm starts, evidence -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in BASES if kind in ARCHITECTURES])
def test_the_formulas_count_what_such_a_model_tunes(kind: str, base_of: Any, load: Any) -> None:
    sizes = BaseModel(BASE_ID, base_of(kind)).architecture()
    for name, method in METHODS.items():
        if not possible(kind, name) or not set(SIZES) & set(method.settings):
            continue
        model = build_model(base_of(kind), load("toy_classes"), get_method(name), 0)
        tuned = sum(value.numel() for part, value in tuned_state(model).items() if not is_head(part))
        assert count(name, {}, sizes) == tuned, name


@pytest.mark.parametrize(
    ("kind", "changes"), [("llama", {"num_key_value_heads": 1}), ("mistral", {"head_dim": 4}), ("t5", {"d_kv": 4})]
)
def test_attention_of_other_widths_is_not_counted_wrong(kind: str, changes: dict[str, int], base_of: Any) -> None:
    sizes = {**BaseModel(BASE_ID, base_of(kind)).architecture(), **changes}
    with pytest.raises(FormatError, match=f"lora cannot be counted in this {kind} model") as caught:
        count("lora", {}, sizes)
    assert "`settings=" in caught.value.hint
    assert count("adapter", {}, sizes) == count("adapter", {}, BaseModel(BASE_ID, base_of(kind)).architecture())


@pytest.mark.parametrize("case", ["lora", "houlsby", "ia3"])
@pytest.mark.parametrize("kind", ["distilbert", "gpt2", "t5", "bart", "llama"])
def test_a_run_starts_from_another(kind: str, case: str, base_of: Any, load: Any) -> None:
    name, settings = CASES[case]
    base, data = base_of(kind), load("toy_classes")
    result = tune(base, data, get_method(name, **settings), REGIME)
    source = to_embedding(result, BASE_ID)
    method = method_of(source)
    for setting, value in settings.items():
        assert (
            sorted(method.settings[setting]) == sorted(value)
            if setting == "targets"
            else method.settings[setting] == value
        )
    start = starting_tensors(base, load("toy_numbers"), method, 0, source)
    assert start.keys() == result.tensors.keys()
    for key, array in start.items():
        assert (array == result.tensors[key]).all(), key


@pytest.mark.parametrize("kind", ["gpt2", "t5", "bart"])
def test_evidence_is_read_where_the_head_looks(kind: str, base_of: Any, load: Any) -> None:
    """A decoder's first token knows nothing of the text behind it."""
    data, base = load("toy_classes"), base_of(kind)
    found = labelled_states(base_encoder(base), load_tokenizer(base), data)
    assert found is not None
    assert len({row.tobytes() for row in found.states.cls}) > 0.8 * len(
        {example["text_a"] for example in data.train[:200]}
    )


def test_two_texts_of_a_pair_are_parted_where_the_tokenizer_has_no_mark_for_it(base_of: Any) -> None:
    tokenizer = load_tokenizer(base_of("gpt2"))
    pair = {"text_a": "good music", "text_b": "bad paper", "label": 0}
    (feature,) = encode(tokenizer, "classification", [pair], 32)
    assert tokenizer.decode(feature.ids[0]) == "good music\nbad paper"
    answers = {"text": ["nine"], "answer_start": [4]}
    (window,) = encode(
        tokenizer, "extractive_qa", [{"question": "how many", "context": "the nine", "answers": answers}], 32
    )
    assert tokenizer.decode(window.ids[0]) == "how many\nthe nine"
    (nothing,) = encode(tokenizer, "classification", [{"text_a": "", "text_b": None, "label": 0}], 32)
    assert nothing.length == 1


@pytest.mark.parametrize(("kind", "mark"), [("gpt2", "<|endoftext|>"), ("roberta", "</s>")])
def test_windows_read_texts_as_they_are_read_whole(kind: str, mark: str, base_of: Any) -> None:
    tokenizer = load_tokenizer(base_of(kind))
    examples = [{"text_a": text, "text_b": None, "label": 0} for text in ("good music", f"good {mark} music", "")]
    whole = encode(tokenizer, "classification", examples, 48)
    assert [one.ids for one in encode_windows(tokenizer, examples, 48)] == [one.ids for one in whole]
    cut = encode_windows(tokenizer, [*examples, {**examples[0], "text_a": "good music " * 20}], 12)
    assert {one.example for one in cut} == {0, 1, 2, 3}
    assert sum(one.example == 3 for one in cut) > 1
    assert max(one.length for one in cut) <= 12


@pytest.mark.parametrize(("kind", "mark"), [("gpt2", "<|endoftext|>"), ("t5", "</s>"), ("bart", "</s>")])
def test_a_mark_that_a_text_holds_is_text(kind: str, mark: str, base_of: Any, load: Any) -> None:
    tokenizer = load_tokenizer(base_of(kind))
    texts = [f"good {mark} music", "good music"]
    features = encode(tokenizer, "classification", [{"text_a": one, "text_b": None, "label": 0} for one in texts], 48)
    counts = {sum(token == tokenizer.eos_token_id for token in feature.ids[0]) for feature in features}
    assert len(counts) == 1
    model = build_model(base_of(kind), load("toy_classes"), get_method("lora"), 0).eval()
    batch = collate(features, tokenizer.pad_token_id)
    with torch.no_grad():
        assert model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.isfinite().all()


# --- through the command ----------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", SIX)
def test_the_command_tunes_compares_and_pulls(
    kind: str, base_of: Any, data_folder: Path, here: Path, invoke: Any
) -> None:
    usual = ("--base", base_of(kind), "--steps", 2, "--batch-size", 8, "--limit", 40, "--to", "mine", "--json")
    first = invoke("train", data_folder, "--task", "toy_classes", "--budget", "20%", *usual)
    assert first.code == 0, first.err
    assert "FutureWarning" not in first.err
    found = first.json()
    assert found["space"] == f"tiny-{kind}/lora"
    assert read_embedding(here / found["embedding"]).facts["architecture"]["model_type"] == kind
    again = invoke(
        "train", data_folder, "--task", "toy_numbers", "--start-from", "toy_classes", "--registry", "mine", *usual
    )
    assert again.code == 0, again.err
    alike = invoke("similar", "toy_numbers", "--registry", "mine", "--json").json()
    assert [one["task"] for one in alike["neighbors"]] == ["toy_classes"]
    for form in ("adapters", "peft", "embedding"):
        pulled = invoke("pull", "toy_classes", "--as", form, "--registry", "mine", "--to", form)
        assert pulled.code == 0, pulled.err
        assert list((here / form).rglob("*.safetensors"))
    back = invoke("similar", here / "peft", "--registry", "mine", "--json")
    assert back.code == 0, back.err
    assert back.json()["neighbors"][0]["task"] in ("toy_classes", "toy_numbers")


@pytest.mark.parametrize(
    ("config", "arguments", "said"),
    [
        ({"model_type": "mpnet"}, (), "A base model of type 'mpnet' cannot be tuned"),
        ({"model_type": "vit"}, (), "A base model of type 'vit' cannot be tuned"),
        ({"model_type": ["bert"]}, (), "cannot be tuned"),
        ({}, (), "A base model of type 'None' cannot be tuned"),
        ({"model_type": "gpt2"}, ("--method", "prompt"), "prompt cannot be put into a gpt2 model"),
        ({"model_type": "t5"}, ("--method", "bitfit"), "bitfit cannot be put into a t5 model: it has no biases"),
        ({"model_type": "deberta"}, (), "lora cannot be put into a deberta model"),
        ({"model_type": "bart"}, ("--kind", "token_classification"), "A bart model cannot be tuned for token_class"),
        ({"model_type": "gpt2"}, ("--kind", "multiple_choice"), "A gpt2 model cannot be tuned for multiple_choice"),
    ],
)
def test_what_cannot_be_tuned_is_refused_by_the_configuration_alone(
    config: dict[str, Any], arguments: tuple[str, ...], said: str, here: Path, invoke: Any
) -> None:
    """There is no file beside it that could be read."""
    (here / "model").mkdir()
    (here / "model" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (here / "data.csv").write_text("text,label\n" + "".join(f"word {n},{n % 2}\n" for n in range(40)), encoding="utf-8")
    result = invoke("train", "data.csv", "--base", "model", *arguments)
    assert (result.code, result.out) == (2, "")
    assert said in result.err
    assert re.search(r"--(base|method)", result.err)
    assert not (here / "tupate-zoo").exists()


def test_names_of_classes_are_scored_by_encoders_alone(
    base_of: Any, data_folder: Path, here: Path, invoke: Any
) -> None:
    result = invoke("train", data_folder, "--task", "toy_classes", "--base", base_of("gpt2"), "--head", "labels")
    assert result.code == 2 and "it is no encoder" in result.err and "leave out --head labels" in result.err


def test_recommend_ranks_a_zoo_of_gpt2(base_of: Any, data_folder: Path, here: Path, invoke: Any) -> None:
    usual = ("--base", base_of("gpt2"), "--steps", 2, "--batch-size", 8, "--limit", 40, "--to", "mine", "--json")
    for task in ("toy_numbers", "toy_tags"):
        assert invoke("train", data_folder, "--task", task, *usual).code == 0
    found = invoke(
        "recommend", data_folder, "--task", "toy_classes", "--registry", "mine", "--base", base_of("gpt2"),
        "--limit", 40, "--json",
    )  # fmt: skip
    assert found.code == 0, found.err
    assert {one["task"] for one in found.json()["neighbors"]} <= {"toy_numbers", "toy_tags"}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "has no tokenizer that can be loaded"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\x10" * 40), "model.safetensors"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(
                (folder / "model.safetensors").read_bytes()[:-900]
            ),
            "cannot be loaded to be tuned|model.safetensors",
        ),
    ],
    ids=["tokenizer", "no weights", "cut weights"],
)
def test_a_damaged_base_model_is_told(
    damage: Callable[[Path], Any], said: str, base_of: Any, data_folder: Path, here: Path, invoke: Any
) -> None:
    import shutil

    folder = Path(shutil.copytree(base_of("gpt2"), here / "damaged"))
    damage(folder)
    result = invoke("train", data_folder, "--task", "toy_classes", "--base", folder)
    assert result.code == 2 and re.search(said, result.err), result.err
    assert "Traceback" not in result.err


def test_grouped_attention_is_tuned_and_pulled(base_of: Any, load: Any, tmp_path: Path) -> None:
    """Llama's keys and values are narrower than its queries where heads share them."""
    import shutil

    from transformers import LlamaConfig, LlamaModel

    folder = Path(shutil.copytree(base_of("llama"), tmp_path / "grouped"))
    LlamaModel(LlamaConfig.from_pretrained(str(folder), num_key_value_heads=1)).save_pretrained(str(folder))
    data, method = load("toy_classes"), get_method("lora", **EVERYWHERE)
    result = tune(folder, data, method, REGIME)
    embedding = parse_embedding(to_embedding(result, BASE_ID).to_bytes("float32"), "it")
    model = build_model(folder, data, method, 0).eval()
    model.load_state_dict({key: torch.tensor(value) for key, value in result.tensors.items()}, strict=False)
    batch = inputs(folder, data)
    expected = states(model, model.base_model, batch)
    loaded = run_readme(write(tmp_path / "peft", export(embedding, "peft")), folder, BASE_ID)
    torch.testing.assert_close(states(loaded, loaded.base_model.model.model, batch), expected, atol=2e-5, rtol=0)
