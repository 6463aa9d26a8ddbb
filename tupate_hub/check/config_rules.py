"""What the configuration says, against the keys that are there: targets, ranks, scales, starts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from tupate_hub.check.alpha import alphas
from tupate_hub.check.evidence import Evidence
from tupate_hub.check.rule import ISSUES, Found, Rule
from tupate_hub.errors import FormatError
from tupate_hub.readers.lowrank import parse_patterns
from tupate_hub.readers.source import Source, short_list
from tupate_hub.space import normalise_base

_PREFIX = "base_model.model."
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
    kind = evidence.config.get("peft_type", "LORA")
    inside = evidence.config.get("config")
    lora = kind in ("LORA", "ADALORA") and (not isinstance(inside, dict) or inside.get("architecture") == "lora")
    if lora and any(block.form == "lowrank" for block in evidence.blocks) and not alphas(evidence):
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


CONFIGURATION: tuple[Rule, ...] = (
    Rule(
        "rank-differs",
        "error",
        "The tensors have another rank than the configuration: PEFT stops with a size mismatch.",
        "Write the tensors' rank into r, or into rank_pattern where modules differ.",
        "peft 0.21.2, run",
        rank_differs,
    ),
    Rule(
        "scale-zero",
        "error",
        "The update is multiplied by 0: it does nothing.",
        "Write the alpha that it was trained with into the configuration.",
        "https://arxiv.org/abs/2106.09685",
        scale_zero,
    ),
    Rule(
        "unconverted-start",
        "error",
        "The factors were started with a part of the base model, which was taken out of it: added to the whole model "
        "they count that part twice.",
        "Save it again with path_initial_model_for_weight_conversion, which makes it an ordinary LoRA.",
        f"{ISSUES}/huggingface/peft/pull/1626",
        unconverted,
    ),
    Rule(
        "targets-nowhere",
        "warning",
        "target_modules names modules of which the file has nothing: they were not tuned, or not saved.",
        "Compare the names with the model's (named_modules), and tune again if they were meant.",
        f"{ISSUES}/vllm-project/vllm/issues/55193",
        targets_nowhere,
    ),
    Rule(
        "pattern-nowhere",
        "warning",
        "An entry of rank_pattern or alpha_pattern matches no module and is ignored in silence.",
        "Write the end of a module's name, or ^ and all of it.",
        f"{ISSUES}/huggingface/peft/issues/3582",
        patterns_nowhere,
    ),
    Rule(
        "alpha-nowhere",
        "warning",
        "No file says alpha, so each program takes its own: mostly the rank, PEFT 8.",
        "Write lora_alpha into the configuration, or an alpha tensor beside the factors.",
        f"{ISSUES}/huggingface/diffusers/pull/14409",
        alpha_nowhere,
    ),
    Rule(
        "alpha-differs",
        "warning",
        "Two places say different alphas, and programs differ in which they take.",
        "Keep the one that it was trained with and delete the other.",
        f"{ISSUES}/Comfy-Org/ComfyUI/pull/15830",
        alpha_differs,
    ),
    Rule(
        "rslora",
        "note",
        "rsLoRA divides alpha by the root of the rank; programs that ignore use_rslora divide by the rank.",
        "For those multiply lora_alpha by the root of the rank and set use_rslora to false.",
        f"{ISSUES}/sgl-project/sglang/issues/40835",
        rank_stabilised,
    ),
    Rule(
        "dora",
        "note",
        "DoRA scales each row of the sum of base and update: the low-rank part, all that is measured here, is not all.",
        "Use a program that knows DoRA, or merge it into the base model.",
        "https://arxiv.org/abs/2402.09353",
        dora,
    ),
    Rule(
        "base-unnamed",
        "warning",
        "The configuration names no base model that others can find.",
        "Write the model's id on the Hub into base_model_name_or_path.",
        "https://huggingface.co/docs/peft/developer_guides/checkpoint",
        base_unnamed,
    ),
    Rule(
        "quantised-base",
        "note",
        "The base model that it names is a quantised copy, which not every program loads.",
        "Name the original where it was copied from; the shapes are the same, the outputs nearly.",
        "https://huggingface.co/docs/peft/developer_guides/quantization",
        quantised_base,
    ),
)
