"""tupate-hub: which tuned adapter or dataset should I start from? Task embeddings made of parameters others have tuned.

>>> from tupate_hub import Zoo
>>> Zoo.open().similar("squad", k=5)  # doctest: +SKIP

docs/api.md has examples of everything.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tupate_hub.compare.ranking import Neighbor, Ranking
    from tupate_hub.compare.similarity import Similarity
    from tupate_hub.compare.view import View
    from tupate_hub.embedding import Adapter, Block, TaskEmbedding, embed
    from tupate_hub.errors import TupateHubError
    from tupate_hub.readers import read_adapter
    from tupate_hub.registry import Registry
    from tupate_hub.search.similar import explain_pair
    from tupate_hub.space import Space
    from tupate_hub.training.load import load
    from tupate_hub.zoo import Zoo

__version__ = "0.1.0"

_HOMES = {
    "Adapter": "embedding",
    "Block": "embedding",
    "TaskEmbedding": "embedding",
    "embed": "embedding",
    "TupateHubError": "errors",
    "Neighbor": "compare.ranking",
    "Ranking": "compare.ranking",
    "read_adapter": "readers",
    "Registry": "registry",
    "Similarity": "compare.similarity",
    "Space": "space",
    "View": "compare.view",
    "Zoo": "zoo",
    "explain_pair": "search.similar",
    "load": "training.load",
}

__all__ = [
    "Adapter",
    "Block",
    "Neighbor",
    "Ranking",
    "Registry",
    "Similarity",
    "Space",
    "TaskEmbedding",
    "TupateHubError",
    "View",
    "Zoo",
    "embed",
    "explain_pair",
    "load",
    "read_adapter",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tupate_hub' has no attribute {name!r}")
    return getattr(import_module(f"tupate_hub.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
