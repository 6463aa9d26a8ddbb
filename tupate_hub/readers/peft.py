"""PEFT: `adapter_config.json` with a `peft_type`, and its weights. Facts from peft 0.21.2, and from 0.2 on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from tupate_hub.arrays import Array, Float32Array
from tupate_hub.embedding import Adapter, make_block
from tupate_hub.readers import lowrank
from tupate_hub.readers.bitfit import bias_blocks
from tupate_hub.readers.names import block_name, is_head
from tupate_hub.readers.peft_keys import count_biases, sort_keys
from tupate_hub.readers.peft_shared import read_delora, read_loha, read_lokr, read_vblora, refuse_xlora
from tupate_hub.readers.prefix import prefix_blocks
from tupate_hub.readers.source import Findings, Source, floats, is_plain
from tupate_hub.readers.vera import read_vera

#: Options of LoRA under which B·A alone is not the change from the base model, with what would be needed.
REFUSED_OPTIONS = {
    "use_qalora": "QA-LoRA's factors act on pooled inputs; merge it and extract a LoRA of the difference",
    "use_bdlora": "BD-LoRA's factors are block-diagonal; save them as an ordinary LoRA",
    "target_parameters": "LoRA on the parameters of experts is stacked over the experts",
    "layer_replication": "its base is a model of replicated layers",
    "kasa_config": "KaSA changes the base model's weights",
    "monteclora_config": "MonteCLoRA samples around its factors",
    "arrow_config": "Arrow routes between several adapters",
}
#: Initialisations that take a part of the base model's weights out and put it into the factors.
REFUSED_STARTS = ("pissa", "olora", "corda", "lora_ga")


def read_peft(source: Source) -> Adapter:
    """An adapter that PEFT saved.

    Raises
    ------
    FormatError
        For a method or an option that cannot be compared, by its name, and for anything malformed.
    """
    kind = source.config.get("peft_type")
    if kind == "XLORA":
        raise refuse_xlora(source)
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        why = REFUSED.get(kind, "it is not known here") if isinstance(kind, str) else "that is not a method's name"
        known = ", ".join(READ)
        raise source.refuse(
            f"is a PEFT adapter of type {str(kind)[:40]!r}, which is not read: {why}.", f"read: {known}"
        )
    findings = Findings()
    version = source.config.get("peft_version")
    if is_plain(version):
        findings.settings["peft_version"] = version
    if is_plain(source.config.get("task_type")):
        findings.settings["task_type"] = source.config["task_type"]
    for ours, theirs in (("num_hidden_layers", "num_layers"), ("num_attention_heads", "num_attention_heads")):
        if is_plain(source.config.get(theirs)):
            findings.architecture[ours] = source.config[theirs]
    method = reader(source, findings)
    return findings.adapter(source, method, source.config.get("base_model_name_or_path"))


def _read_lora(source: Source, findings: Findings) -> str:
    _refuse_options(source)
    modules, biases = sort_keys(source, findings)
    if not modules and biases:
        return _only_biases(source, findings, biases)
    alpha, stabilised = source.number("lora_alpha", 8.0), source.config.get("use_rslora") is True
    alphas = lowrank.parse_patterns(source, "alpha_pattern")
    enabled = lowrank.enabled_parts(source, source.config)
    ranks = set()
    for module, parts in modules.items():
        if parts.pop("magnitude", None) is not None:
            findings.left_out["DoRA magnitudes"] += 1
        name = module.removeprefix("base_model.model.")
        factors = {part: floats(source, module, array) for part, array in parts.items() if part in ("A", "B")}
        if not factors:
            findings.left_out["other tensors"] += len(parts)
            continue
        if enabled and factors.get("B", np.empty(0)).ndim == 3:
            a, b = lowrank.expand_groups(source, module, factors, enabled)
            rank = len(a) // sum(enabled)
        else:
            a, b = lowrank.pair(source, module, factors)
            rank = len(a)
        scale = lowrank.scale_of(alphas.get(name, alpha), rank, stabilised)
        ranks.add(rank)
        findings.blocks.append(make_block(block_name(module), {"A": a, "B": b}, scale, source.where))
        if "B_bias" in parts:
            bias = {"bias": floats(source, module, parts["B_bias"])}
            findings.blocks.append(make_block(f"{block_name(module)}.bias", bias, scale, source.where))
    count_biases(findings, biases)
    if findings.left_out["DoRA magnitudes"]:
        findings.notes.append("DoRA: the low-rank part is read; the magnitudes need the base model's weights.")
    if source.config.get("init_lora_weights") == "loftq":
        findings.notes.append("LoftQ: the update is relative to the quantised base model.")
    findings.settings |= {"r": lowrank.one_or_all(ranks), "alpha": alpha, "rslora": stabilised}
    return "lora"


def _refuse_options(source: Source) -> None:
    for option, why in REFUSED_OPTIONS.items():
        if source.config.get(option):
            raise source.refuse(f"uses LoRA's option {option!r}, which is not read: {why}.")
    start = source.config.get("init_lora_weights")
    if isinstance(start, str) and start.startswith(REFUSED_STARTS):
        raise source.refuse(
            f"was started with {start[:40]!r}, which moves a part of the base model into the factors.",
            hint="save it again with path_initial_model_for_weight_conversion=..., which makes it an ordinary LoRA",
        )


def _only_biases(source: Source, findings: Findings, biases: Mapping[str, Array]) -> str:
    findings.blocks += bias_blocks(source, biases, findings)
    return "bitfit"


def _read_adalora(source: Source, findings: Findings) -> str:
    """B·(A ∘ E) alpha / init_r (Zhang et al. 2023; peft/tuners/adalora/layer.py, get_delta_weight).

    PEFT divides by the rank that training started from, whatever was pruned later, and adds 1e-5 to it.
    """
    modules, biases = sort_keys(source, findings)
    alpha, start = source.number("lora_alpha", 8.0), source.number("init_r", 12.0)
    if start <= 0:
        raise source.refuse(f"has a configuration whose 'init_r' is {start:g}.")
    scale = (alpha if alpha > 0 else start) / (start + 1e-5)
    ranks = set()
    for module, parts in modules.items():
        factors = {part: floats(source, module, array) for part, array in parts.items() if part in ("A", "B", "E")}
        if "A" in factors and not len(factors["A"]):
            findings.left_out["pruned to rank 0"] += 1
            continue
        a, b = lowrank.pair(source, module, factors)
        values = factors.get("E")
        if values is None or values.shape != (len(a), 1):
            raise source.refuse(f"holds an AdaLoRA without fitting lora_E: {module!r}.")
        with np.errstate(over="ignore", invalid="ignore"):  # make_block refuses what is not finite
            weighed = a * values
        ranks.add(len(a))
        findings.blocks.append(make_block(block_name(module), {"A": weighed, "B": b}, scale, source.where))
    count_biases(findings, biases)
    findings.settings |= {"r": lowrank.one_or_all(ranks), "alpha": alpha, "adalora": True}
    return "lora"


def _read_ia3(source: Source, findings: Findings) -> str:
    """Factors of outputs, (out, 1), and of a feed-forward's inputs, (1, in): the latter's blocks end in `.input`."""
    modules, biases = sort_keys(source, findings)
    for module, parts in modules.items():
        if set(parts) != {"scaling"} or parts["scaling"].ndim != 2 or 1 not in parts["scaling"].shape:
            raise source.refuse(f"holds an IA3 scaling that is not a vector: {module!r}.")
        scaling = floats(source, module, parts["scaling"])
        name = block_name(module) + (".input" if scaling.shape[0] == 1 and scaling.shape[1] > 1 else "")
        findings.blocks.append(make_block(name, {"scaling": scaling.ravel()}, 1.0, source.where))
    count_biases(findings, biases)
    return "ia3"


def _read_ln(source: Source, findings: Findings) -> str:
    modules, biases = sort_keys(source, findings)
    tuned = {f"{module}.{kind}": array for module, parts in modules.items() for kind, array in parts.items() if kind}
    findings.blocks += bias_blocks(source, tuned, findings)
    count_biases(findings, biases)
    return "ln_tuning"


def _read_prefix(source: Source, findings: Findings) -> str:
    """One flat tensor (n, layers * 2 * width), keys before values (peft/peft_model.py, get_prompt)."""
    rows = _prompt_rows(source, findings)
    layers = int(source.number("num_layers", 0))
    width = int(source.number("token_dim", 0))
    if layers <= 0 and width > 0:
        layers = rows.shape[1] // (2 * width)
    if not 0 < layers <= rows.shape[1]:
        raise source.refuse(f"holds a prefix that does not divide into the {layers} layers of its configuration.")
    findings.blocks += prefix_blocks(source, rows, range(layers), "")
    findings.settings["tokens"] = len(rows)
    return "prefix"


def _read_prompt(source: Source, findings: Findings) -> str:
    """One tensor (n, width); an encoder-decoder's has the decoder's rows after the encoder's."""
    rows = _prompt_rows(source, findings)
    tokens = int(source.number("num_virtual_tokens", len(rows)))
    both = source.config.get("num_transformer_submodules") == 2 and len(rows) == 2 * tokens
    findings.blocks.append(make_block("prompt", {"rows": rows[:tokens] if both else rows}, 1.0, source.where))
    if both:
        findings.blocks.append(make_block("decoder.prompt", {"rows": rows[tokens:]}, 1.0, source.where))
    if source.config.get("peft_type") == "P_TUNING":
        findings.notes.append("P-tuning: read as the prompt that its encoder makes.")
    findings.settings["tokens"] = tokens if both else len(rows)
    return "prompt"


def _prompt_rows(source: Source, findings: Findings) -> Float32Array:
    rows = None
    for key, array in source.tensors.items():
        if key.rpartition(".")[2] == "prompt_embeddings" or key == "prompt_embeddings":
            rows = floats(source, key, array)
        else:
            findings.left_out["heads" if is_head(key) else "other tensors"] += 1
    if rows is None:
        raise source.refuse("holds no 'prompt_embeddings'.")
    if rows.ndim != 2 or 0 in rows.shape:
        raise source.refuse(f"holds 'prompt_embeddings' of shape {rows.shape}, where (tokens, width) is needed.")
    return rows


_READERS: Mapping[str, Callable[[Source, Findings], str]] = MappingProxyType(
    {
        "LORA": _read_lora,
        "ADALORA": _read_adalora,
        "LOHA": read_loha,
        "LOKR": read_lokr,
        "VERA": read_vera,
        "VBLORA": read_vblora,
        "DELORA": read_delora,
        "IA3": _read_ia3,
        "LN_TUNING": _read_ln,
        "PREFIX_TUNING": _read_prefix,
        "PROMPT_TUNING": _read_prompt,
        "P_TUNING": _read_prompt,
    }
)

#: The methods that are read.
READ = tuple(sorted(_READERS))

_SHARED = "its update needs frozen random matrices that are the same only where seed and shapes are"
_ROTATION = "it multiplies the base model's weights, which are needed to know the change"
#: Those that are known and not read, with the reason.
REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "PVERA": _SHARED,
        "RANDLORA": _SHARED,
        "UNILORA": _SHARED,
        "OFT": _ROTATION,
        "BOFT": _ROTATION,
        "HRA": _ROTATION,
        "ROAD": _ROTATION,
        "BONE": _ROTATION,
        "MISS": "its update repeats blocks over the base model's shape; extract a LoRA of it",
        "FOURIERFT": "its update lives in the frequencies of the base model's shape",
        "WAVEFT": "its update lives in the wavelets of the base model's shape",
        "C3A": "its update is a block-circular convolution; extract a LoRA of it",
        "SHIRA": "its update is sparse, not low-rank",
        "TRAINABLE_TOKENS": "it tunes rows of the embedding, which name tokens and not a place in the model",
        "MULTITASK_PROMPT_TUNING": "one file holds the prompts of many tasks; save one task's as PROMPT_TUNING",
        "ADAPTION_PROMPT": "its prompts act through gates of their own layers",
        "CPT": "its prompt is tied to the tokens of its context",
        "POLY": "it mixes several adapters by the task",
        "BEFT": "its bias is that of a value projection alone; save it as a *.bias file",
    }
)
