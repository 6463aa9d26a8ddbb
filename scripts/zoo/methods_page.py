"""Make docs/methods.md from the design table. `--check` writes nothing and fails where the page is out of date."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tupate_hub.publish.table import markdown_table
from tupate_hub.storage.atomic import write_bytes
from tupate_hub.training.design import DESIGN, SIZES, SYMBOLS, count, for_budget
from tupate_hub.training.methods import METHODS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "methods.md"

#: Sizes, and parameters without a head, of the models that the tables take as examples.
MINILM = ({"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6}, 22_713_216)
BERT_BASE = ({"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12}, 109_482_240)
SHARES = (0.001, 0.005, 0.01)

OPENING = """\
# Tuning methods

He et al. ("Towards a Unified View of Parameter-Efficient Transfer Learning", ICLR 2022) write every method as a change
Δh of some hidden representation h of the frozen model and tell methods apart by four choices: what function makes Δh,
whether it reads the sub-layer's input x (parallel) or h itself (sequential), which representation it modifies, and how
Δh joins h. This page is generated from the table in `tupate_hub/training/design.py` (`make docs`); tests check its
formulas against real models.

## The design space
"""

LEGEND = """
In the table, h is the representation that is modified, x the input of its sub-layer, W_q the base model's own query
projection of the head, λ the share of the attention that falls on the prefix, s a fixed or learned number, ∘ the
product by elements. P_k, P_v, W_down, W_up, b, b′, v and E are tuned. The letters of the formulas:
"""

DEFAULTS = """
## Default sizes

Chosen so that the methods have about the same size on all-MiniLM-L6-v2, except `prompt`, which has the prefix's length,
and those without a size. In brackets: the share of the base model's parameters.
"""

BUDGETS = """
## Sizes for a budget

`--budget 0.5%` takes the largest size whose parameters, without the head, stay within that share of the base model's
(one too small even for size 1 is refused; a bottleneck grows no wider than the model). LoRA's scale α/r stays as it is.
`mam` takes one number for prefix and bottleneck. `bitfit` and `ia3` have no size. On all-MiniLM-L6-v2:
"""

EQUIVALENCES = """
## What is the same as what

Each statement is a test (`tests/training/test_equivalences.py`) on the layers of a real BERT, with the modules of the
`adapters` library 1.3, in double precision, to 1e-9.

- Prefix tuning is a gated parallel adapter of each head. Let A be the head's attention to the text alone, B its
  attention to the prefix alone, softmax(x W_q P_kᵀ / √d_h) P_v, and λ the share of its attention that falls on the
  prefix: the head's output is (1 − λ)·A + λ·B (He et al., the equation of λ).
- The multi-head parallel adapter with a softmax in place of its ReLU and that gate in place of the sum is prefix
  tuning.
- LoRA is a parallel adapter with the identity in place of the ReLU, around one weight. Merged or not, it is the same
  model.
- A scaled parallel adapter with s = 1 is a parallel adapter; one with any s is a parallel adapter whose upper matrix
  and bias are s times as large.
- A reparametrised prefix is a flat one: its network's output is all that the model sees of it.
- (IA)³ scales the rows of a weight, and its bias.
- BitFit, on the output of a sub-layer, is a parallel adapter that has only its upper bias.

## Where the modules differ from the paper

- Adapters, parallel adapters and scaled parallel adapters have biases (r + d a module), as in the `adapters` library;
  the paper's counts leave them out.
- The sequential adapter of Pfeiffer et al. reads the feed-forward sub-layer's output after the layer norm and adds to
  what was before it: Δh = ReLU(LN(h + x) W_down + b) W_up + b′. Those of Houlsby et al. read h itself, and take ReLU
  here, as in He et al., where the library's default is swish.
- A parallel adapter on the attention is added after the attention's output projection (the library's `mh_adapter`); the
  paper adds it before. What is added before the projection, head by head, is `multihead-parallel`.
- Bottleneck adapters start with an upper matrix of zero, as LoRA does.
- The prompt stands after the first token, and heads see only the text's own positions. No position sees padding; with
  the library's fused attention the first positions do.
- BitFit tunes the biases of the encoder and of the embeddings' layer norm, not the pooler's, which no head here reads.
"""


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield from markdown_table(header, [[cell or "–" for cell in row] for row in rows]).splitlines()


def design_table() -> Iterator[str]:
    rows = [
        (
            f"`{row.method}`",
            row.part,
            row.form,
            row.insertion,
            row.modifies,
            row.composition,
            row.parameters.replace(" * ", "·"),
        )
        for row in DESIGN
    ]
    yield from table(("method", "part", "Δh", "insertion", "h is", "h becomes", "parameters"), rows)


def default_table() -> Iterator[str]:
    rows = []
    for name, method in METHODS.items():
        counts = [(count(name, {}, sizes), total) for sizes, total in (MINILM, BERT_BASE)]
        rows.append((f"`{name}`", told(method.settings), *(f"{n:,} ({100 * n / total:.2f} %)" for n, total in counts)))
    yield from table(("method", "settings", "all-MiniLM-L6-v2", "bert-base"), rows)


def told(settings: Mapping[str, Any]) -> str:
    """The settings in a line: lists joined, what is switched off left out."""
    written = {key: " + ".join(value) if isinstance(value, list) else value for key, value in settings.items()}
    return ", ".join(f"{key} {value}" for key, value in written.items() if value is not False)


def budget_table() -> Iterator[str]:
    sizes, total = MINILM
    rows = []
    for name, method in METHODS.items():
        if set(SIZES) & set(method.settings):
            budgets = [for_budget(name, share, total, sizes) for share in SHARES]
            rows.append((f"`{name}`", *(size_of(one.settings, one.parameters) for one in budgets)))
    yield from table(("method", *(f"{100 * share:g} %" for share in SHARES)), rows)


def size_of(settings: Mapping[str, Any], parameters: int) -> str:
    sizes = ", ".join(f"{name} {settings[name]}" for name in SIZES if name in settings)
    return f"{sizes} ({parameters:,})"


def page() -> str:
    """The whole page."""
    letters = [f"- {letter}: {meaning}" for letter, meaning in SYMBOLS.items()]
    lines = [
        *(OPENING, *design_table()),
        *(LEGEND, *letters),
        *(DEFAULTS, *default_table()),
        *(BUDGETS, *budget_table()),
        EQUIVALENCES,
    ]
    return "\n".join(lines).rstrip() + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the page is out of date")
    text = page().encode()
    if parser.parse_args(arguments).check:
        if PAGE.exists() and PAGE.read_bytes() == text:
            return 0
        print(f"{PAGE.name} is out of date: make docs", file=sys.stderr)
        return 1
    write_bytes(PAGE, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
