"""Design: the methods side by side (He et al. 2022, table 1), how many parameters each has, and sizes for a budget.

Torch-free: the command line and the documents read it. `docs/methods.md` is made from it.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tupate_hub.architectures import DECODER, ENCODER_DECODER, form_of
from tupate_hub.errors import FormatError, UnknownName
from tupate_hub.training.methods import METHODS, Method, get_method

Settings = Mapping[str, Any]
Architecture = Mapping[str, Any]

#: What the letters of `Row.parameters` stand for.
SYMBOLS: Mapping[str, str] = {
    "d": "width of the model (`hidden_size`)",
    "f": "inner width of the feed-forward sub-layer (`intermediate_size`, 4 d in BERT)",
    "layers": "number of layers (`num_hidden_layers`)",
    "l": "length of the prompt or the prefix (setting `tokens`)",
    "r": "size of the bottleneck, or rank (setting `r`)",
    "t": "number of weights in a layer that are adapted (setting `targets`)",
    "s": "1 where the scale is learned, else 0 (setting `scaling`)",
}
_ATTENTION, _FEED_FORWARD = frozenset({"query", "key", "value"}), frozenset({"intermediate", "output"})


def _always(settings: Settings) -> bool:
    return True


@dataclass(frozen=True)
class Row:
    """One change that a method makes to a model, in the terms of He et al. (2022).

    A method has one row, or one for each `part` of it. `form` is the change Δh of the representation h that is
    modified, where x is the input of h's sub-layer; `insertion` says whether Δh is computed from x (parallel) or from
    h (sequential); `parameters` is a formula over `SYMBOLS`, in sums and products of whole numbers; `when` tells from a
    method's settings whether the row is a part of it.
    """

    method: str
    form: str
    insertion: str
    modifies: str
    composition: str
    parameters: str
    part: str = ""
    when: Callable[[Settings], bool] = field(default=_always, repr=False)


_ADD, _SCALED, _GATED = "h + Δh", "h + s·Δh", "(1 − λ)·h + λ·Δh"
_BOTTLENECK = "(2 * r * d + r + d) * layers"
_SCALED_BOTTLENECK = "(2 * r * d + r + d + s) * layers"
_BESIDE = "ReLU(x W_down + b) W_up + b′"
_AFTER = "ReLU(h W_down + b) W_up + b′"
_PREFIX = "softmax(x W_q P_kᵀ) P_v"

DESIGN: tuple[Row, ...] = (
    Row("prompt", "P, as further inputs", "input", "input embeddings", "[x₁; P; x₂ …]", "l * d"),
    Row(
        "prefix", _PREFIX, "parallel", "head attention", _GATED, "2 * l * d * layers",
        part="flat", when=lambda settings: not settings["reparametrise"],
    ),
    Row(
        "prefix", f"{_PREFIX}, (P_k, P_v) = MLP(E)", "parallel", "head attention", _GATED,
        "l * d + d * (d + 1) + 2 * d * layers * (d + 1)",
        part="reparametrised", when=lambda settings: bool(settings["reparametrise"]),
    ),
    Row("bitfit", "b", "parallel", "every weight and layer norm", _ADD, "(7 * d + f) * layers + d"),
    Row(
        "lora", "x W_down W_up", "parallel", "attention (queries, keys, values)", _SCALED, "2 * r * d * t * layers",
        part="attention", when=lambda settings: bool(_ATTENTION & set(settings["targets"])),
    ),
    Row(
        "lora", "x W_down W_up", "parallel", "feed-forward (each weight)", _SCALED, "r * (d + f) * t * layers",
        part="feed-forward", when=lambda settings: bool(_FEED_FORWARD & set(settings["targets"])),
    ),
    Row("adapter", _AFTER, "sequential", "feed-forward", _ADD, _BOTTLENECK),
    Row("adapter-houlsby", _AFTER, "sequential", "attention and feed-forward", _ADD, f"2 * {_BOTTLENECK}"),
    Row("parallel", _BESIDE, "parallel", "feed-forward, or attention", _ADD, _BOTTLENECK),
    Row("scaled-parallel", _BESIDE, "parallel", "feed-forward, or attention", _SCALED, _SCALED_BOTTLENECK),
    Row("multihead-parallel", "ReLU(x W_q P_kᵀ) P_v", "parallel", "head attention", _ADD, "2 * l * d * layers"),
    Row("mam", _PREFIX, "parallel", "head attention", _GATED, "2 * l * d * layers", part="prefix"),
    Row("mam", _BESIDE, "parallel", "feed-forward", _SCALED, _SCALED_BOTTLENECK, part="scaled parallel"),
    Row("ia3", "h ∘ (v − 1)", "sequential", "keys, values, inner feed-forward", "h ∘ v", "(2 * d + f) * layers"),
)  # fmt: skip


def rows_of(method: str, settings: Settings) -> tuple[Row, ...]:
    """The rows that a method with these settings is made of.

    Raises
    ------
    UnknownName
        For an unknown method, setting, or target of LoRA.
    FormatError
        When LoRA has no target.
    """
    complete = get_method(method, **settings).settings
    unknown = set(complete.get("targets", ())) - _ATTENTION - _FEED_FORWARD
    if unknown:
        known = ", ".join(sorted(_ATTENTION | _FEED_FORWARD))
        raise UnknownName(f"{method} has no target {min(unknown)!r}.", hint=f"known: {known}")
    rows = tuple(row for row in DESIGN if row.method == method and row.when(complete))
    if not rows:
        raise FormatError(
            f"{method} without a target changes nothing.", hint="leave the targets out for the usual ones"
        )
    return rows


def count(method: str, settings: Settings, architecture: Architecture) -> int:
    """How many parameters a method tunes in a base model, without the task's head.

    Parameters
    ----------
    method : str
        A name of `METHODS`.
    settings : mapping
        Those that are not the method's defaults.
    architecture : mapping
        `hidden_size`, `num_hidden_layers` and, where it is not four times the width, `intermediate_size`, as
        a model's configuration has them (`BaseModel.architecture`).

    Raises
    ------
    FormatError
        When the configuration has no such number, or its attention has widths that the formulas do not know.
    TupateHubError
        As `rows_of`.
    """
    complete = get_method(method, **settings).settings
    return sum(evaluate(row.parameters, _values(row, complete, architecture)) for row in rows_of(method, settings))


def _values(row: Row, settings: Settings, architecture: Architecture) -> dict[str, int]:
    _require_known(row, architecture)
    width = _size(architecture, "hidden_size")
    if row.method == "prompt":  # which lies among word embeddings, narrower than the model in ELECTRA and ALBERT
        width = architecture.get("embedding_size") or width
    places = _FEED_FORWARD if row.part == "feed-forward" else _ATTENTION
    return {
        "d": width,
        "f": _size({"intermediate_size": 4 * width, **architecture}, "intermediate_size"),
        "layers": _layers(row, architecture),
        "l": settings.get("tokens", 0),
        "r": settings.get("r", 0),
        "t": len(places & set(settings.get("targets", ()))),
        "s": int(settings.get("scaling") == "learned"),
    }


#: Rows that every attention has. A decoder that looks at an encoder has two in a layer.
_ATTENDING = frozenset(
    {
        ("prefix", "flat"),
        ("prefix", "reparametrised"),
        ("lora", "attention"),
        ("multihead-parallel", ""),
        ("mam", "prefix"),
    }
)
#: Model types with the biases that BERT has, and no others.
_BIASES_OF_BERT = frozenset({"bert", "deberta", "distilbert", "roberta", "xlm-roberta"})


def _layers(row: Row, architecture: Architecture) -> int:
    """How often a model has what a row changes; ALBERT's layers share one."""
    groups = architecture.get("num_hidden_groups")
    layers = groups * architecture.get("inner_group_num", 1) if groups else _size(architecture, "num_hidden_layers")
    attentions = 2 if (row.method, row.part) in _ATTENDING else 1
    return int(layers + attentions * architecture.get("num_decoder_layers", 0))


def _require_known(row: Row, architecture: Architecture) -> None:
    """Refuse what the formulas, which are BERT's, would count wrong.

    Raises
    ------
    FormatError
        Saying so.
    """
    form, width = form_of(str(architecture.get("model_type"))), architecture.get("hidden_size")
    heads = architecture.get("num_attention_heads", 1)
    each = architecture.get("d_kv") or architecture.get("head_dim")
    uneven = architecture.get("num_key_value_heads", heads) != heads or (each and each * heads != width)
    odd = row.method == "bitfit" and architecture.get("model_type", "bert") not in _BIASES_OF_BERT
    odd |= form in (DECODER, ENCODER_DECODER) and row.method == "ia3"
    odd |= form == ENCODER_DECODER and row.part == "reparametrised"
    if odd or (uneven and (row.method, row.part) in _ATTENDING):
        raise FormatError(
            f"The parameters of {row.method} cannot be counted in this {architecture.get('model_type')} model.",
            hint="say the method's size instead of a budget: `settings={'r': 8}`",
        )


def _size(architecture: Architecture, name: str) -> int:
    value = architecture.get(name)
    if not isinstance(value, int) or value < 1:
        raise FormatError(
            f"The base model's configuration has no {name}.", hint="take another base model: `base=MODEL`"
        )
    return value


def evaluate(formula: str, values: Mapping[str, int]) -> int:
    """The value of a formula of sums and products over named whole numbers.

    >>> evaluate("2 * r * (d + 1)", {"r": 3, "d": 4})
    30
    """
    return _value(ast.parse(formula, mode="eval").body, values)


def _value(node: ast.expr, values: Mapping[str, int]) -> int:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.Name) and node.id in values:
        return values[node.id]
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Mult)):
        left, right = _value(node.left, values), _value(node.right, values)
        return left + right if isinstance(node.op, ast.Add) else left * right
    raise ValueError(f"no sum or product of known numbers: {ast.unparse(node)}")


# --- budgets ----------------------------------------------------------------------------------------------------

_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,9})?|\.[0-9]{1,9}) ?%")
#: The settings that make a method larger or smaller. Where it has both, both take one value.
SIZES = ("tokens", "r")


@dataclass(frozen=True)
class Budget:
    """What a budget came to: the settings to give to `get_method`, the parameters they make, and their share."""

    method: str
    settings: Settings
    parameters: int
    share: float

    def __str__(self) -> str:
        """One sentence that tells the size and what it makes.

        >>> str(Budget("lora", {"r": 12, "alpha": 24}, 110592, 0.00487))
        'lora with r 12, alpha 24: 110,592 parameters, 0.487 % of the base model'
        """
        sizes = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        return f"{self.method} with {sizes}: {self.parameters:,} parameters, {100 * self.share:.3f} % of the base model"


def parse_budget(written: str) -> float:
    """The share of the base model's parameters that `0.5%` stands for, above 0 and at most 1.

    Raises
    ------
    FormatError
        For anything else than a percentage up to 100%.
    """
    match = _PERCENT.fullmatch(written.strip())
    share = float(match[1]) / 100 if match else 0.0
    if not 0 < share <= 1:
        raise FormatError(
            f"{written[:40]!r} is not a budget: it is a share of the base model's parameters.", hint="`budget='0.5%'`"
        )
    return share


def require_modest(method: Method, architecture: Architecture) -> None:
    """Refuse sizes beyond the model's width, which hold nothing that smaller ones cannot and may not fit into memory.

    Raises
    ------
    FormatError
        Naming the size and the width.
    """
    width = _size(architecture, "hidden_size")
    for name in SIZES:
        if method.settings.get(name, 0) > width:
            raise FormatError(
                f"{method.name} with {name} {method.settings[name]} is wider than the base model, which has {width}.",
                hint=f"`settings={{{name!r}: {get_method(method.name).settings[name]!r}}}`",
            )


def for_budget(
    method: str, share: float, base_parameters: int, architecture: Architecture, settings: Settings | None = None
) -> Budget:
    """The largest size of a method that stays within a share of the base model's parameters.

    A bottleneck grows no wider than the model. LoRA keeps its scale alpha / r.

    Parameters
    ----------
    method : str
        A name of `METHODS` that has a size: neither `bitfit` nor `ia3`.
    share : float
        As `parse_budget` gives it.
    base_parameters : int
        How many parameters the base model has, without heads.
    architecture : mapping
        As for `count`.
    settings : mapping, optional
        Those that are not the method's defaults, without sizes.

    Raises
    ------
    FormatError
        When the method has no size, one is among the settings, or the smallest is over the budget.
    TupateHubError
        As `count`.
    """
    given = dict(settings or {})
    complete = get_method(method, **given).settings
    knobs = [name for name in SIZES if name in complete]
    if not knobs:
        sized = ", ".join(name for name, candidate in METHODS.items() if set(SIZES) & set(candidate.settings))
        raise FormatError(f"{method} has no size that a budget could choose.", hint=f"methods with one: {sized}")

    if set(knobs) & set(given):
        raise FormatError(
            f"A budget chooses {' and '.join(knobs)} itself.",
            hint="leave out `budget`, or leave out `settings` for what it chooses",
        )

    def parameters(size: int) -> int:
        return count(method, {**given, **dict.fromkeys(knobs, size)}, architecture)

    fixed, each = parameters(0), parameters(1) - parameters(0)
    most = _size(architecture, "hidden_size") if "r" in knobs else base_parameters
    size = min(most, (int(share * base_parameters) - fixed) // each)
    if size < 1:
        least = parameters(1) / base_parameters
        raise FormatError(
            f"{method} has at least {parameters(1):,} parameters on this base model, {least:.2g} of its own.",
            hint=f"`budget='{math.ceil(least * 1e4) / 100:g}%'`",
        )
    chosen = dict.fromkeys(knobs, size)
    if "alpha" in complete:
        alpha = size * complete["alpha"] / complete["r"]
        chosen["alpha"] = int(alpha) if alpha.is_integer() else alpha
    return Budget(method, {**given, **chosen}, parameters(size), parameters(size) / base_parameters)
