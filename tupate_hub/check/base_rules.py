"""What the base model says: places that it has not, other shapes, sizes beside its weights, tokens beyond its table."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from tupate_hub.check.architecture import lacks_layer, shape_of
from tupate_hub.check.config_rules import named_base
from tupate_hub.check.evidence import Evidence
from tupate_hub.check.module_rules import saved_embeddings
from tupate_hub.check.rule import ISSUES, Found, Rule
from tupate_hub.embedding import Block
from tupate_hub.errors import FormatError
from tupate_hub.readers.names import block_name
from tupate_hub.readers.source import read_config
from tupate_hub.space import normalise_base

_LARGE = 5.0
#: bfloat16 has eight significant bits: half of the last.
_LOST = 2.0**-9
#: A cosine, see docs/check.md: of tuned LoRA it is 0.03 at most, of a part of rank 2 at least 0.1.
_ALONG = 0.08
#: In models of a few dozen dimensions chance alone goes beyond it.
_CHANCES = 5
_MOST_TOKENS = 100_000
#: How the names of the parameters begin that PEFT's methods beside LoRA add (peft 0.21.2, the `prefix` of each).
_PARAMETERS = (
    "adamss_", "boft_", "bone_", "c3a_", "deft_", "delora_", "fourierft_", "frod_", "glora_", "gralora_", "hada_",
    "hira_", "hra_", "lily_", "lokr_", "miss_", "oft_", "osf_", "peanut_", "poly_", "psoft_", "pvera_", "randlora_",
    "road_", "shadow_", "shira_", "supertuning_", "tinylora_", "unilora_", "vblora_", "vera_", "waveft_",
)  # fmt: skip


def _places(evidence: Evidence) -> dict[str, Block]:
    """The blocks that change something of the base model, by its name."""
    forms = ("lowrank", "bias", "scaling", "bottleneck")
    return {block.name.removesuffix(".input"): block for block in evidence.blocks if block.form in forms}


def _prefixes(evidence: Evidence) -> list[Block]:
    """Keys and values that are put before those of a layer."""
    return [block for block in evidence.blocks if _is_prefix(block)]


def _is_prefix(block: Block) -> bool:
    return block.form == "rows" and block.name.endswith((".keys", ".values"))


def _unread(evidence: Evidence) -> list[str]:
    """The modules that a method of PEFT changes which is not read here, by the first part of its parameters' names."""
    if evidence.adapter is not None or evidence.blocks or evidence.layout != "peft":
        return []
    found: dict[str, None] = {}
    for key in evidence.tensors:
        pieces = key.split(".")
        at = next((index for index, piece in enumerate(pieces) if piece.startswith(_PARAMETERS)), 0)
        if name := block_name(".".join(pieces[:at])):
            found.setdefault(name)
    return list(found)


def not_in_base(evidence: Evidence) -> Iterator[Found]:
    """Modules or layers that the base model has not."""
    base = evidence.base
    if base is None:
        return
    names, prefixes = [*_places(evidence), *_unread(evidence)], _prefixes(evidence)
    missing = [name for name in names if base.lacks(name.removesuffix(".bias"))]
    missing += [block.name for block in prefixes if lacks_layer(base.config, block.name)]
    if missing:
        yield Found(f"{len(missing)} of {len(names) + len(prefixes)} places", tuple(missing))


def other_shape(evidence: Evidence) -> Iterator[Found]:
    """Weights of another shape than the base model's."""
    if evidence.base is None:
        return
    odd, example, compared = [], "", 0
    for name, block in _places(evidence).items():
        there = evidence.base.shape(name) if block.form in ("lowrank", "scaling") else None
        if there is None:
            continue
        ours = _shape(block)
        compared += 1
        if any(mine not in (None, theirs) for mine, theirs in zip(ours, there, strict=True)):
            odd.append(name)
            example = example or f"{_text(ours)} here, {_text(there)} there"
    if odd:
        yield Found(f"{len(odd)} of {compared} weights, {example}", tuple(odd))


def other_width(evidence: Evidence) -> Iterator[Found]:
    """Prompts and bottlenecks of another width than the hidden states, prefixes of another than a layer's keys."""
    if evidence.base is None:
        return
    prefixes, keys = _prefixes(evidence), shape_of(evidence.base.config, "k_proj")
    others = [block for block in evidence.blocks if block.form in ("rows", "bottleneck") and not _is_prefix(block)]
    widths = {block.parts["rows" if block.form == "rows" else "down"].shape[1] for block in others}
    for found, width in (
        (widths, evidence.base.width),
        ({block.parts["rows"].shape[1] for block in prefixes}, keys[0] if keys else None),
    ):
        if width is not None and found - {width}:
            yield Found(f"{', '.join(map(str, sorted(found)))} here, {width} there")


def other_base(evidence: Evidence) -> Iterator[Found]:
    """Another name than that of the base model that it is checked against."""
    written, base = normalise_base(named_base(evidence)), evidence.base
    there = base.where.removeprefix("hf://").partition("@")[0] if base is not None else None
    if base is not None and base.is_of_the_hub and written and written != normalise_base(there):
        yield Found(f"{written} there")


def part_of_base(evidence: Evidence) -> Iterator[Found]:
    """Updates that point where the weights do, as factors do that were taken out of them."""
    found = evidence.beside_base.values()
    if found and median(one.cosine - max(_ALONG, _CHANCES * one.chance) for one in found) > 0:
        middle = median(one.cosine for one in found)
        yield Found(f"a cosine of {middle:.2f} in the middle one of {len(found)} blocks")


def large_beside_base(evidence: Evidence) -> Iterator[Found]:
    """Updates several times as large as the weights that they change."""
    large = {name: one.ratio for name, one in evidence.beside_base.items() if one.ratio > _LARGE}
    if large:
        most = max(large.values())
        yield Found(f"{len(large)} of {len(evidence.updates)} blocks, up to {most:.3g} times", tuple(large))


def lost_beside_base(evidence: Evidence) -> Iterator[Found]:
    """Updates that are mostly lost when they are added to weights in bfloat16."""
    small = [name for name, one in evidence.beside_base.items() if 0 < one.ratio < _LOST]
    if small:
        yield Found(f"{len(small)} of {len(evidence.beside_base)} blocks are below 0.2 % of the weight", tuple(small))


def resized_vocabulary(evidence: Evidence) -> Iterator[Found]:
    """An embedding or head that is saved with another number of rows."""
    rows = evidence.base.vocabulary if evidence.base is not None else None
    odd = {key: count for key, count in saved_embeddings(evidence).items() if rows is not None and count != rows}
    if odd:
        yield Found(f"{max(odd.values())} rows here, {rows} there", tuple(odd))


def tokens_without_rows(evidence: Evidence) -> Iterator[Found]:
    """Tokens of the folder's tokenizer beyond the base model's embedding, which the file does not bring."""
    rows = evidence.base.vocabulary if evidence.base is not None else None
    if rows is None or saved_embeddings(evidence):
        return
    beyond = sorted(token for token, number in _added_tokens(evidence).items() if number >= rows)
    if beyond:
        yield Found(f"{len(beyond)} tokens, {rows} rows", tuple(beyond))


def _added_tokens(evidence: Evidence) -> dict[str, int]:
    """The tokens that the folder's tokenizer adds, with their numbers."""
    found: dict[str, int] = {}
    for name in ("added_tokens.json", "tokenizer_config.json"):
        if name not in evidence.files:
            continue
        try:
            written = read_config(evidence.folder / name)
        except FormatError:
            continue
        if name == "added_tokens.json":
            found |= {token: number for token, number in written.items() if type(number) is int}
            continue
        decoder = written.get("added_tokens_decoder")
        for number, token in decoder.items() if isinstance(decoder, dict) else ():
            content = token.get("content") if isinstance(token, dict) else None
            if isinstance(content, str) and number.isascii() and number.isdecimal() and len(number) < 10:
                found[content] = int(number)
        if len(found) > _MOST_TOKENS:
            break
    return found


def _shape(block: Block) -> tuple[int | None, int | None]:
    """(out, in) of what a block changes; None for the side that it does not tell."""
    if block.form == "lowrank":
        return block.parts["B"].shape[0], block.parts["A"].shape[1]
    size = len(block.parts["scaling"])
    return (None, size) if block.name.endswith(".input") else (size, None)


def _text(shape: tuple[int | None, int | None]) -> str:
    return " x ".join("any" if size is None else str(size) for size in shape)


BASE: tuple[Rule, ...] = (
    Rule(
        "not-in-base",
        "error",
        "The base model has no such modules: their updates are refused, or dropped without an error.",
        "It was tuned on another model, or its keys were renamed: look at base_model_name_or_path.",
        f"{ISSUES}/huggingface/peft/pull/2118",
        not_in_base,
        needs="base",
    ),
    Rule(
        "other-shape",
        "error",
        "Weights have another shape than the base model's: it was tuned on a model of another size.",
        "Look at base_model_name_or_path.",
        f"{ISSUES}/vllm-project/vllm/issues/12106",
        other_shape,
        needs="base",
    ),
    Rule(
        "other-width",
        "error",
        "Its vectors are not as wide as the base model's hidden states or keys.",
        "Look at base_model_name_or_path.",
        "https://arxiv.org/abs/2104.08691",
        other_width,
        needs="base",
    ),
    Rule(
        "other-base",
        "note",
        "The configuration names another base model than the one that it is checked against.",
        "Right for a copy under another name; else it may load and mean nothing.",
        f"{ISSUES}/huggingface/peft/issues/1932",
        other_base,
        needs="base",
    ),
    Rule(
        "vocabulary-resized",
        "warning",
        "It brings an embedding or a head of another number of tokens than the base model has: loading stops with a "
        "size mismatch.",
        "Call resize_token_embeddings with that number before you load it.",
        f"{ISSUES}/huggingface/peft/pull/2290",
        resized_vocabulary,
        needs="base",
    ),
    Rule(
        "tokens-without-rows",
        "warning",
        "Its tokenizer has tokens beyond the base model's embedding, and the file brings no rows for them.",
        "Save it again with save_embedding_layers=True, or with trainable_token_indices.",
        f"{ISSUES}/huggingface/peft/issues/1457",
        tokens_without_rows,
        needs="base",
    ),
    Rule(
        "part-of-base",
        "error",
        "The updates point where the base model's weights do, which no tuning brings about: they hold a part of them, "
        "as PiSSA's and OLoRA's factors do, and added to the whole model they count it twice.",
        "Save it again with path_initial_model_for_weight_conversion, which makes it an ordinary LoRA.",
        f"{ISSUES}/huggingface/peft/pull/1626; docs/check.md, measured",
        part_of_base,
        needs="weights",
    ),
    Rule(
        "larger-than-base",
        "warning",
        "Updates are more than five times as large as the weights that they change; trained ones are mostly a tenth "
        "or less.",
        "It may have diverged: try an earlier checkpoint, and check alpha.",
        "https://arxiv.org/abs/2106.09685, table 7",
        large_beside_base,
        needs="weights",
    ),
    Rule(
        "lost-in-bfloat16",
        "note",
        "Beside the base model's weights updates are so small that merging in bfloat16 rounds most of them away.",
        "Merge in float32, or keep the adapter apart.",
        f"{ISSUES}/unslothai/unsloth/issues/3091",
        lost_beside_base,
        needs="weights",
    ),
)
