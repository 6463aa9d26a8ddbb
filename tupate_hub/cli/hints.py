"""Hints: what the library advises in its own words, put into the options of the verb that failed.

A library error states a fact. Where it can advise, its `hint` speaks of the caller's parameters as Python writes them,
between backticks, and of commands without options:

    FormatError("x names no base model.", hint="say which model it was tuned on: `base=MODEL_ID`")
    RegistryError("There is no registry in x.", hint="leave out `location` for the bundled zoo, or: tupate-hub init x")

Here `base=MODEL_ID` becomes `--base MODEL_ID` and `location` becomes `--registry`. `OPTIONS` lists the parameters whose
option has another name, or takes its value in another form; `force=True` becomes `--force`, and a mapping one option an
item. A hint is one piece of advice or several, parted by ", or ": those that name an option which the verb lacks are
left out, and where none is left the verb's help is named. A piece that ends in a command gets the --registry of the
command that failed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from itertools import pairwise

from tupate_hub.cli.verbs import VERBS, command_of

#: The library's parameter, or the parameter with a value, and its option, where that is not `--` and the same name.
OPTIONS: Mapping[str, str] = {
    "add_all": "--all",
    "columns": "--column",
    "form": "--as",
    "k": "--top",
    "learning_rate": "--lr",
    "location": "--registry",
    "most_seconds=300": "--minutes 5",
    "most_steps": "--steps",
    "prefer='ours'": "--ours",
    "prefer='theirs'": "--theirs",
    "settings": "--set",
    "target": "--to",
}
PARAMETER = re.compile(r"`(?P<name>[a-z]\w*)(?:=(?P<value>[^`]+))?`")
_COMMAND = re.compile(r"\btupate-hub (?P<verb>[a-z]+(?:-[a-z]+)*)(?: [^\s(),;]+)*$")
_BETWEEN = ", or "


def for_command(hint: str, given: Sequence[str]) -> str:
    """A library's hint for whoever typed the arguments `given`."""
    verb = next((argument for argument in given if argument in VERBS), "")
    registry = _registry_of(given)
    advice = [_about(piece, registry) for piece in for_verb(hint, verb).split(_BETWEEN)]
    return _BETWEEN.join(advice)


def for_verb(hint: str, verb: str) -> str:
    """A library's hint in the options of a verb; without a verb as it is."""
    if not verb or not PARAMETER.search(hint):
        return hint
    known = options_of(verb)
    fitting = [
        PARAMETER.sub(lambda match: _option(match)[1], piece)
        for piece in hint.split(_BETWEEN)
        if all(_option(match)[0] in known for match in PARAMETER.finditer(piece))
    ]
    return _BETWEEN.join(fitting) or f"tupate-hub {verb} --help"


def options_of(verb: str) -> frozenset[str]:
    """The options of a verb, as they are typed."""
    command = command_of(verb)
    commands = [command, *getattr(command, "commands", {}).values()]
    parameters = [parameter for one in commands if one is not None for parameter in one.params]
    return frozenset(name for parameter in parameters for name in (*parameter.opts, *parameter.secondary_opts))


def _option(match: re.Match[str]) -> tuple[str, str]:
    """The option of a parameter, and what is typed for the parameter with its value."""
    name, written = match["name"], match["value"]
    if (both := f"{name}={written}") in OPTIONS:
        return OPTIONS[both].partition(" ")[0], OPTIONS[both]
    option = OPTIONS.get(name, f"--{name.replace('_', '-')}")
    if written is None:
        return option, option
    import ast  # here: --help has no use for it

    try:
        value = ast.literal_eval(written)
    except (ValueError, SyntaxError):  # a word that stands for a value, such as MODEL_ID
        return option, f"{option} {written}"
    if value is True:
        return option, option
    if isinstance(value, dict):
        values = [f"{key}={item}" for key, item in value.items()]
    else:
        values = [value if isinstance(value, str) else written]
    return option, " ".join(f"{option} {shlex.quote(text)}" for text in values)


def _registry_of(given: Sequence[str]) -> str | None:
    named = [argument.partition("=")[2] for argument in given if argument.startswith("--registry=")]
    named += [value for name, value in pairwise(given) if name == "--registry"]
    return named[-1] if named else None


def _about(advice: str, registry: str | None) -> str:
    """Advice that ends in a command, with the same --registry, if its verb takes one."""
    command = _COMMAND.search(advice)
    if registry is None or command is None or command["verb"] not in VERBS or "--registry" in command[0]:
        return advice
    return f"{advice} --registry {shlex.quote(registry)}" if "--registry" in options_of(command["verb"]) else advice
