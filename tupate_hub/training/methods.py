"""Tuning methods: what each puts into a base model, and with which settings.

Most come from the `adapters` library (1.3). BitFit (Ben Zaken et al. 2022) is the base model's own biases, and the
multi-head parallel adapter (He et al. 2022) is `multihead.py`. `design.py` describes them side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tupate_hub.errors import UnknownName

#: The adapter's and the head's name inside the model, the same for every task.
NAME = "task"

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Method:
    """A tuning method: `put(model, settings)` adds its parameters and leaves those and the heads as the trainable ones.

    `regime` are the fields of a `Regime` that this method wants otherwise than LoRA. Where `relative`, the parameters
    are the base model's own, and what is kept is their difference from where they started.
    """

    name: str
    put: Callable[[Any, Settings], None]
    settings: Settings
    regime: Mapping[str, Any] = field(default_factory=dict)
    relative: bool = False


def get_method(name: str, **settings: Any) -> Method:
    """The method of that name, with some of its settings changed.

    Raises
    ------
    UnknownName
        Listing the known methods, or the settings that the method has.
    """
    if name not in METHODS:
        raise UnknownName(f"Unknown tuning method {name!r}.", hint="known: " + ", ".join(METHODS))
    method = METHODS[name]
    if unknown := settings.keys() - method.settings.keys():
        known = ", ".join(method.settings) or "none"
        raise UnknownName(f"{name} has no setting {min(unknown)!r}.", hint=f"its settings: {known}")
    regime = method.regime
    if settings.get("reparametrise"):
        regime = {**regime, **_rate(3e-3)}  # its network learns at a rate of its own
    return replace(method, settings={**method.settings, **settings}, regime=regime)


def saved_config(model: Any) -> dict[str, Any]:
    """The configuration that the `adapters` library would save beside the parameters; {} where it has none."""
    config = model.adapters_config.get(NAME)
    if config is None:
        return {}
    return {"config": config.to_dict(), "hidden_size": model.config.hidden_size, "name": NAME}


# --- what each puts into the model ------------------------------------------------------------------------------


def _lora(settings: Settings, width: int) -> Any:
    from adapters import LoRAConfig

    attention = {"query": "q", "key": "k", "value": "v"}
    targets = settings["targets"]
    return LoRAConfig(
        r=settings["r"],
        alpha=settings["alpha"],
        attn_matrices=[attention[target] for target in targets if target in attention],
        selfattn_lora=any(target in attention for target in targets),
        intermediate_lora="intermediate" in targets,
        output_lora="output" in targets,
    )


def _adapter(settings: Settings, width: int) -> Any:
    from adapters import SeqBnConfig

    return SeqBnConfig(**_bottleneck(settings["r"], width))


def _houlsby(settings: Settings, width: int) -> Any:
    from adapters import DoubleSeqBnConfig

    return DoubleSeqBnConfig(**{**_bottleneck(settings["r"], width), "non_linearity": "relu"})


def _parallel(settings: Settings, width: int) -> Any:
    from adapters import ParBnConfig

    attention = settings["on"] == "attention"
    scaling = settings.get("scaling", 1.0)
    return ParBnConfig(
        **_bottleneck(settings["r"], width), mh_adapter=attention, output_adapter=not attention, scaling=scaling
    )


def _prefix(settings: Settings, width: int) -> Any:
    from adapters import PrefixTuningConfig

    return PrefixTuningConfig(
        flat=not settings.get("reparametrise"), prefix_length=settings["tokens"], bottleneck_size=width
    )


def _mam(settings: Settings, width: int) -> Any:
    from adapters import MAMConfig

    return MAMConfig(_prefix(settings, width), _parallel({**settings, "on": "ffn"}, width))


def _prompt(settings: Settings, width: int) -> Any:
    from adapters import PromptTuningConfig

    return PromptTuningConfig(prompt_length=settings["tokens"], combine="prefix_after_bos")


def _ia3(settings: Settings, width: int) -> Any:
    from adapters import IA3Config

    return IA3Config()


def _bottleneck(rank: int, width: int) -> dict[str, Any]:
    """The library counts a bottleneck by a reduction factor, of which it takes `width // factor`.

    The upper matrix starts at zero, as LoRA's does (He et al. 2022, section 4.6), so that an update is what the task
    has made of it.
    """
    factor = width / rank
    return {
        "reduction_factor": factor if width // factor == rank else math.nextafter(factor, 0),
        "init_weights": "mam_adapter",
    }


def _through_library(config: Callable[[Settings, int], Any]) -> Callable[[Any, Settings], None]:
    def put(model: Any, settings: Settings) -> None:
        model.add_adapter(NAME, config(settings, model.config.hidden_size))
        model.train_adapter(NAME)

    return put


def _from_nearer_to_zero(config: Callable[[Settings, int], Any]) -> Callable[[Any, Settings], None]:
    """Flat prefixes start nearer to zero than the library's, by `init`, so that the task outweighs the start."""
    put_as_it_is = _through_library(config)

    def put(model: Any, settings: Settings) -> None:
        import torch

        put_as_it_is(model, settings)
        with torch.no_grad():
            for name, value in model.named_parameters():
                if name.endswith(".control_trans"):
                    value.mul_(settings["init"])

    return put


def _put_prompt(model: Any, settings: Settings) -> None:
    """The library (1.3, fused attention) lets a prompt see padding: the mask is made longer here instead."""
    import torch
    from adapters.context import ForwardContext

    count = settings["tokens"]

    def show_prompt(module: Any, inputs: Any) -> Any:
        ForwardContext.get_context().prompt_tokens_length = None  # so that the library leaves the mask alone
        hidden, mask, *rest = inputs
        if mask is not None:
            mask = torch.nn.functional.pad(mask[:, :, :1], (count, 0))
        return (hidden, mask, *rest)

    def without_prompt(module: Any, inputs: Any, output: Any) -> Any:
        """Heads see the text's own positions, so that spans and tags stay where they are."""
        hidden = output.last_hidden_state
        output.last_hidden_state = torch.cat([hidden[:, :1], hidden[:, 1 + count :]], dim=1)
        return output

    _through_library(_prompt)(model, settings)
    for _, layer in model.iter_layers():
        layer.register_forward_pre_hook(show_prompt)
    model.base_model.register_forward_hook(without_prompt)


def _put_biases(model: Any, settings: Settings) -> None:
    for name, value in model.base_model.named_parameters():
        value.requires_grad_(name.endswith(".bias") and not name.startswith("pooler."))


def _put_multihead(model: Any, settings: Settings) -> None:
    from tupate_hub.training.multihead import add_multihead_parallel

    model.base_model.requires_grad_(False)
    add_multihead_parallel(model, settings["tokens"])


#: The zoo tunes LoRA, prefixes, biases and prompts for 400 steps; two cores leave less time for the other methods.
_SHORT = {"steps": 200, "evaluations": 3}


def _rate(rate: float) -> dict[str, float]:
    """Another learning rate, and the head's as LoRA has it."""
    return {"learning_rate": rate, "head_factor": 5e-3 / rate}


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method("lora", _through_library(_lora), {"r": 8, "alpha": 16, "targets": ["query", "value"]}),
        Method(
            "prefix",
            _from_nearer_to_zero(_prefix),
            {"tokens": 16, "reparametrise": False, "init": 0.5},
            _rate(3e-2),
        ),
        Method("bitfit", _put_biases, {}, _rate(2e-3), relative=True),
        Method("prompt", _put_prompt, {"tokens": 16}, _rate(1e-2)),
        Method("adapter", _through_library(_adapter), {"r": 16}, _SHORT),
        Method("adapter-houlsby", _through_library(_houlsby), {"r": 8}, _SHORT),
        Method("parallel", _through_library(_parallel), {"r": 16, "on": "ffn"}, _SHORT),
        Method("scaled-parallel", _through_library(_parallel), {"r": 16, "on": "ffn", "scaling": 4.0}, _SHORT),
        Method("multihead-parallel", _put_multihead, {"tokens": 16}, _SHORT | _rate(2e-3)),
        Method(
            "mam",
            _from_nearer_to_zero(_mam),
            {"tokens": 8, "r": 8, "scaling": 4.0, "init": 0.1},
            _SHORT | _rate(1e-3),
        ),
        Method("ia3", _through_library(_ia3), {}, _SHORT | _rate(5e-3)),
    )
}
