"""How large an update is, as `inspect` and `show` print it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tupate_hub.cli import output

if TYPE_CHECKING:
    from tupate_hub.compare.magnitude import Magnitude

_MOST = 32


def as_document(size: Magnitude) -> dict[str, Any]:
    """Fields of --json; of updates without low-rank blocks the change of outputs and the rank are null."""
    low = bool(size.changes)
    return {
        "norm": size.norm,
        "norm_by_layer": size.by_layer(),
        "output_change": size.output_change if low else None,
        "effective_rank": size.effective_rank if low else None,
        "diverged": size.diverged,
    }


def as_lines(size: Magnitude) -> list[tuple[str, output.Cell]]:
    """Names and values."""
    lines: list[tuple[str, output.Cell]] = [("norm", f"{size.norm:.4g}")]
    layers = size.by_layer()
    if len(layers) > 1:
        short = (f"{name.rpartition('.')[2]} {norm:.3g}" for name, norm in layers.items())
        lines.append(("norm by layer", output.some(short, _MOST)))
    if size.changes:
        lines.append(("change of outputs", f"{size.output_change:.3g} where inputs have variance one"))
        lines.append(("effective rank", f"{size.effective_rank:.3g}"))
    if size.diverged:
        lines.append(("note", "diverged: outputs change by far more than those of a base model are"))
    return lines
