"""MLX: LoRA of mlx-lm, factors transposed against PEFT's, keys in lower case, with or without a configuration."""

from __future__ import annotations

from tupate_hub.arrays import Array
from tupate_hub.embedding import Adapter, make_block
from tupate_hub.readers import lowrank
from tupate_hub.readers.names import block_name
from tupate_hub.readers.source import Findings, Source, floats

_HALVES = {"lora_a": "A", "lora_b": "B"}


def read_mlx(source: Source) -> Adapter:
    """`<module>.lora_a` of shape (in, r) and `<module>.lora_b` of shape (r, out); `scale` is in the configuration.

    Raises
    ------
    FormatError
        For full fine-tuning, a missing half, or shapes that do not fit.
    """
    kind = source.config.get("fine_tune_type", "lora")
    if kind not in ("lora", "dora"):
        raise source.refuse(f"was tuned with MLX's {str(kind)[:40]!r}, which is not read.", "read: lora, dora")
    findings = Findings()
    modules: dict[str, dict[str, Array]] = {}
    for key, array in source.tensors.items():
        module, _, last = key.rpartition(".")
        if last in _HALVES:
            modules.setdefault(module, {})[_HALVES[last]] = floats(source, key, array).T
        else:
            findings.left_out["DoRA magnitudes" if last == "m" else "other tensors"] += 1
    parameters = source.mapping("lora_parameters")
    scale = source.number("scale", 1.0, parameters)
    if "scale" not in parameters:
        findings.notes.append("The file does not say its scale; 1 is taken, on which no cosine depends.")
    elif "alpha" in parameters:
        findings.notes.append(
            "The first mlx-lm multiplied by alpha / rank too; a common factor, on which no cosine depends."
        )
    ranks = set()
    for module, factors in modules.items():
        a, b = lowrank.pair(source, module, factors)
        ranks.add(len(a))
        findings.blocks.append(make_block(block_name(module), {"A": a, "B": b}, scale, source.where))
    findings.settings |= {"r": ranks.pop() if len(ranks) == 1 else sorted(ranks), "scale": scale}
    if findings.left_out["DoRA magnitudes"]:
        findings.notes.append("DoRA: the low-rank part is read; the magnitudes need the base model's weights.")
    return findings.adapter(source, "lora", source.config.get("model"))
