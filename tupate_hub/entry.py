"""Entry: one embedding of a registry: the file that holds it, and what was measured of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tupate_hub.errors import NotKept

#: What a registry may have of an embedding: its file, a sketch of it alone, or what is known of it alone.
KEPT = ("embedding", "sketch", "facts")
#: Fields that most entries do not have and do not mention.
_SELDOM = ("repeats", "strength")


@dataclass(frozen=True)
class Repeat:
    """Another run of an entry's task in its space: it is measured, never ranked.

    `seed` is that of the order of the examples, `init_seed` that of the initial parameters.
    """

    file: str
    bytes: int
    sha256: str
    seed: int
    init_seed: int
    scores: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One embedding: the file that holds it, relative to the registry, and what was measured of it.

    `repeats` are other runs of the same task in the same space. `strength` is how much better than other sources the
    task makes targets, as measured transfer has it: `value`, `error`, `targets`; empty where nothing is known.
    `kept` is what the registry has of it, one of `KEPT`. Without a file `file` is "" and `bytes` 0; `sha256` is then
    that of its content (`collect.content`), "" where facts alone are kept.
    """

    task: str
    space: str
    file: str
    bytes: int
    sha256: str
    source: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    repeats: tuple[Repeat, ...] = ()
    strength: Mapping[str, Any] = field(default_factory=dict)
    kept: str = KEPT[0]

    @property
    def has_file(self) -> bool:
        """Whether its numbers are in a file of the registry."""
        return self.kept == KEPT[0]

    def require_file(self) -> None:
        """Refuse an entry whose numbers are not in the registry.

        Raises
        ------
        NotKept
            Saying what is kept in their place, and where they were read.
        """
        if not self.has_file:
            repo, revision = (self.source.get(name) for name in ("repo", "revision"))
            known = isinstance(repo, str) and isinstance(revision, str)
            raise NotKept(
                f"The weights of {self.task!r} are not in this registry, which keeps its {self.kept} alone.",
                hint=f"fetch them: tupate-hub add hf://{repo}@{revision}" if known else "add them from where they are",
            )

    def runs(self) -> tuple[Entry, ...]:
        """The entry's own run and its repeats, each as an entry that has no repeats; those that have a file."""
        if not self.has_file:
            return ()
        return replace(self, repeats=()), *(
            replace(self, file=repeat.file, bytes=repeat.bytes, sha256=repeat.sha256, scores=repeat.scores, repeats=())
            for repeat in self.repeats
        )

    def to_fields(self) -> dict[str, Any]:
        """The fields of its object in a registry; those that say nothing are left out."""
        fields = {name: value for name, value in vars(self).items() if value or name not in _SELDOM}
        if self.repeats:
            fields["repeats"] = [vars(repeat) for repeat in self.repeats]
        if self.has_file:
            del fields["kept"]
        else:
            del fields["file"], fields["bytes"]
        return fields
