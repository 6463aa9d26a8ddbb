"""What the configuration says, against the keys that are there: targets, ranks, scales, starts, heads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from tupate_hub.check.alpha import alphas
from tupate_hub.check.basemodel import is_embedding
from tupate_hub.check.evidence import Evidence
from tupate_hub.check.rule import Found
from tupate_hub.errors import FormatError
from tupate_hub.readers.lowrank import parse_patterns
from tupate_hub.readers.names import block_name, is_task_head
from tupate_hub.readers.source import Source, short_list
from tupate_hub.space import normalise_base

_PREFIX = "base_model.model."
_WITH_HEAD = ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS")
_HEAD_CLASSES = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice")
_STARTS = ("pissa", "olora", "corda", "lora_ga")
_QUANTISED = re.compile(r"-(?:bnb-(?:4|8)bit|GPTQ(?:-.+)?|AWQ(?:-.+)?|int4|int8|4bit|8bit|FP8(?:-.+)?)$", re.IGNORECASE)
_MOST_TARGETS = 200
_MOST_MATCHES = 1_000_000


def _modules(evidence: Evidence) -> tuple[str, ...]:
    """The modules with LoRA, as the model calls them."""
    return tuple(module.removeprefix(_PREFIX) for module in evidence.halves)


def _has(modules: Iterable[str], target: str) -> bool:
    """Whether PEFT's `target_modules` names one of them: a whole name, or the end of one after a dot."""
    return any(module == target or module.endswith(f".{target}") for module in modules)


def targets_nowhere(evidence: Evidence) -> Iterator[Found]:
    """Targets that no key of the file has."""
    targets = evidence.config.get("target_modules")
    if not isinstance(targets, list) or not evidence.halves:
        return
    modules = _modules(evidence)
    last = {module.rpartition(".")[2] for module in modules}
    named = evidence.words("target_modules")[:_MOST_TARGETS]
    missing = [target for target in named if target not in last and not ("." in target and _has(modules, target))]
    if missing:
        there = sorted(last)
        yield Found(f"the file has {short_list(there)}, not", tuple(missing))


def rank_differs(evidence: Evidence) -> Iterator[Found]:
    """Tensors of another rank than the configuration says."""
    rank = evidence.number("r")
    if evidence.config.get("peft_type") != "LORA" or rank is None or evidence.config.get("enable_lora"):
        return
    try:
        patterns = parse_patterns(_source(evidence), "rank_pattern")
    except FormatError:
        return
    odd, found = [], set()
    for module, keys in evidence.halves.items():
        shape = evidence.tensors[keys["A"]].shape if "A" in keys else ()
        if shape and shape[0] not in (0, rank) and shape[0] != patterns.get(module.removeprefix(_PREFIX), rank):
            odd.append(module)
            found.add(str(shape[0]))
    if odd:
        yield Found(f"r is {rank:g} there, {short_list(sorted(found))} in {len(odd)} of {len(evidence.halves)} modules")


def patterns_nowhere(evidence: Evidence) -> Iterator[Found]:
    """Entries of rank_pattern or alpha_pattern that no module matches."""
    modules = _modules(evidence)
    for name in ("rank_pattern", "alpha_pattern") if modules else ():
        written = evidence.config.get(name)
        if not isinstance(written, dict) or len(written) * len(modules) > _MOST_MATCHES:
            continue
        idle = []
        for pattern in written:
            try:
                one = parse_patterns(_source(evidence, {name: {pattern: 1}}), name)
            except FormatError:
                continue
            if all(one.get(module, 0.0) == 0 for module in modules):
                idle.append(str(pattern))
        if idle:
            yield Found(name, tuple(idle))


def _source(evidence: Evidence, config: dict[str, object] | None = None) -> Source:
    return Source(evidence.folder, evidence.folder, evidence.config if config is None else config, {})


# --- how strongly it is applied ----------------------------------------------------------------------------------


def scale_zero(evidence: Evidence) -> Iterator[Found]:
    """Blocks that are multiplied by nothing."""
    idle = [block.name for block in evidence.blocks if block.scale == 0]
    if idle:
        yield Found(f"{len(idle)} of {len(evidence.blocks)} blocks", tuple(idle))


def alpha_nowhere(evidence: Evidence) -> Iterator[Found]:
    """LoRA whose files do not say alpha."""
    if any(block.form == "lowrank" for block in evidence.blocks) and not alphas(evidence):
        scales = sorted({block.scale for block in evidence.blocks})
        yield Found(f"taken here is a scale of {short_list(f'{scale:g}' for scale in scales)}".replace("'", ""))


def alpha_differs(evidence: Evidence) -> Iterator[Found]:
    """Two places that give different alphas."""
    places = [place for place in alphas(evidence) if not place.is_scale]
    first = places[0] if places else None
    for other in places[1:]:
        if first is not None and not set(other.values) <= set(first.values):
            yield Found(f"{first.text}, {other.text}")


def rank_stabilised(evidence: Evidence) -> Iterator[Found]:
    """rsLoRA, which some programs ignore."""
    if evidence.config.get("use_rslora") is True and evidence.blocks:
        ranks = {len(block.parts["A"]) for block in evidence.blocks if block.form == "lowrank"}
        factors = short_list(f"{rank**0.5:.3g}" for rank in sorted(ranks)).replace("'", "")
        yield Found(f"too weak there by a factor of {factors}")


def unconverted(evidence: Evidence) -> Iterator[Found]:
    """Factors that hold a part of the base model."""
    start = evidence.config.get("init_lora_weights")
    if isinstance(start, str) and start.startswith(_STARTS):
        yield Found(f"init_lora_weights is {start[:40]!r}")


def dora(evidence: Evidence) -> Iterator[Found]:
    """DoRA, of which the low-rank part is measured."""
    count = evidence.adapter.left_out.get("DoRA magnitudes", 0) if evidence.adapter else 0
    if count or evidence.config.get("use_dora") is True:
        yield Found(f"{count} magnitudes")


# --- the base model's name ---------------------------------------------------------------------------------------


def named_base(evidence: Evidence) -> str | None:
    """The base model as the configuration writes it."""
    written = (evidence.config.get(name) for name in ("base_model_name_or_path", "model_name", "model"))
    return next((one for one in written if isinstance(one, str) and one), None)


def base_unnamed(evidence: Evidence) -> Iterator[Found]:
    """No base model that others could find."""
    if evidence.config and normalise_base(written := named_base(evidence)) is None:
        yield Found(f"it says {written[:80]!r}" if written else "it names none")


def quantised_base(evidence: Evidence) -> Iterator[Found]:
    """A quantised copy as the base model."""
    written = named_base(evidence)
    if written and _QUANTISED.search(written[-100:]):
        yield Found("", (written,))


# --- heads and other whole modules -------------------------------------------------------------------------------


def head_missing(evidence: Evidence) -> Iterator[Found]:
    """A task that needs a head, and no head."""
    if not evidence.tensors or evidence.layout != "peft" or evidence.heads:
        return
    mapping = evidence.config.get("auto_mapping")
    of_class = mapping.get("base_model_class") if isinstance(mapping, dict) else None
    if evidence.config.get("task_type") in _WITH_HEAD:
        yield Found(f"task_type is {evidence.config['task_type']}")
    elif isinstance(of_class, str) and of_class.endswith(_HEAD_CLASSES):
        yield Found(f"it was tuned in a {of_class[:80]}")


def head_there(evidence: Evidence) -> Iterator[Found]:
    """A head, whose number of outputs has to be said when it is loaded."""
    heads = evidence.heads
    if heads:
        rows = [len(evidence.tensors[key]) for key in heads if key.endswith("weight") and evidence.tensors[key].ndim]
        yield Found(f"{min(rows)} outputs" if rows else "", heads)


def saved_nowhere(evidence: Evidence) -> Iterator[Found]:
    """Modules that were to be saved whole and are not there; of heads one is enough: PEFT lists several names."""
    names = evidence.words("modules_to_save")[:_MOST_TARGETS]
    if not evidence.tensors or evidence.layout != "peft":
        return
    pieces = {piece for key in evidence.tensors for piece in key.split(".")}
    missing = [name for name in names if not set(name.split(".")) <= pieces]
    heads = {name for name in names if is_task_head(name)}
    if heads - set(missing):
        missing = [name for name in missing if name not in heads]
    if missing:
        yield Found("", tuple(missing))


def full_copies(evidence: Evidence) -> Iterator[Found]:
    """Whole modules beside the method, heads apart."""
    whole = [
        key
        for key in evidence.tensors
        if evidence.layout == "peft"
        and evidence.adapter is not None
        and key.endswith(".weight")
        and "lora_" not in key
        and key not in evidence.heads
        and evidence.tensors[key].ndim == 2
    ]
    if whole:
        yield Found("", tuple(whole))


def trained_tokens(evidence: Evidence) -> Iterator[Found]:
    """Rows of the embedding that were trained one by one."""
    deltas = [key for key in evidence.tensors if key.endswith("trainable_tokens_delta")]
    if deltas:
        rows = sum(len(evidence.tensors[key]) for key in deltas if evidence.tensors[key].ndim)
        yield Found(f"{rows} rows", tuple(deltas))


def saved_embeddings(evidence: Evidence) -> dict[str, int]:
    """The embeddings and language heads that are saved whole, with their rows."""
    return {
        key: len(array)
        for key, array in evidence.tensors.items()
        if "lora_" not in key and array.ndim == 2 and is_embedding(block_name(key.replace(".base_layer", "")))
    }
