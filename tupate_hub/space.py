"""Space: what makes two embeddings comparable, a base model and a tuning method."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tupate_hub.errors import FormatError
from tupate_hub.knownbases import WIDTHS, original

#: Organisations under which the Hub filed the models that once had no organisation.
LEGACY_ORGANISATIONS = frozenset(
    {"google-bert", "FacebookAI", "openai-community", "distilbert", "google-t5", "albert", "xlnet", "almanach"}
)
#: What an id of a model looks like, with or without an owner.
MODEL_ID = re.compile(r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*")


#: How the names of those models begin, and under which of the organisations they are.
_HOMES: Mapping[str, str] = MappingProxyType(
    {
        "albert": "albert",
        "bert": "google-bert",
        "camembert": "almanach",
        "distil": "distilbert",
        "gpt2": "openai-community",
        "openai-gpt": "openai-community",
        "roberta": "FacebookAI",
        "t5": "google-t5",
        "xlm": "FacebookAI",
        "xlnet": "xlnet",
    }
)


#: Models whose id on the Hub has no owner begin so.
LEGACY_NAMES = tuple(_HOMES)


@dataclass(frozen=True, order=True)
class Space:
    """A base model and a method. Embeddings of different spaces do not compare.

    `base` is a normalised model id (see `normalise_base`), `method` a method name such as `lora`.
    """

    base: str
    method: str

    def __str__(self) -> str:
        """The space in words, for messages: `lora on acme/tiny-bert`."""
        return f"{self.method} on {self.base}"

    @property
    def name(self) -> str:
        """Short name, `<last part of the base>/<method>`: the folder of the space in a zoo."""
        return f"{self.base.rpartition('/')[2]}/{self.method}"


def normalise_base(written: str | None) -> str | None:
    """A base model's id in one spelling, or None where what is written names no model.

    `google-bert/bert-base-uncased` and `bert-base-uncased` are one model, and so are the other models that the Hub
    moved under an organisation, and the copies that `knownbases` tells. Local paths, POSIX or Windows, and missing
    names give None: the user has to say.

    >>> normalise_base("distilbert/distilgpt2")
    'distilgpt2'
    >>> normalise_base("/content/checkpoint-12") is None
    True
    """
    if not written or not isinstance(written, str) or not MODEL_ID.fullmatch(written):
        return None
    organisation, _, name = written.rpartition("/")
    return original(name if organisation in LEGACY_ORGANISATIONS else written)


def spellings(base: str) -> tuple[str, ...]:
    """The ids under which the Hub's cards name a base model: the normalised one, and that with its organisation.

    >>> spellings("bert-base-uncased"), spellings("acme/tiny")
    (('bert-base-uncased', 'google-bert/bert-base-uncased'), ('acme/tiny',))
    """
    home = next((home for start, home in _HOMES.items() if base.startswith(start)), None)
    return (base,) if "/" in base or home is None else (base, f"{home}/{base}")


def require_base(written: str | None, where: str) -> str:
    """The normalised base model, or an error that asks for it.

    Raises
    ------
    FormatError
        When `written` is missing or a local path.
    """
    base = normalise_base(written)
    if base is None:
        said = f"names a local base model, {written!r}" if written else "names no base model"
        guess = original(re.split(r"[\\/]", written)[-1].strip()) if isinstance(written, str) else ""
        likely = guess if guess in WIDTHS else "MODEL_ID"
        raise FormatError(f"{where} {said}.", hint=f"say which model it was tuned on: `base={likely}`")
    return base
