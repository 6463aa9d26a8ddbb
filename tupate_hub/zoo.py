"""Zoo: a registry and the bytes behind it, with the questions that they answer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tupate_hub.errors import FormatError, RegistryError, SpaceMismatch, TupateHubError
from tupate_hub.notebook import data_frame, html_table
from tupate_hub.registry import FILENAME, Entry, Registry, Task
from tupate_hub.storage.folder import Folder, why_not
from tupate_hub.storage.registry_json import parse_registry

if TYPE_CHECKING:
    from tupate_hub.compare.input_covariance import InputCovariance
    from tupate_hub.compare.pair_index import PairIndex
    from tupate_hub.compare.ranking import Ranking
    from tupate_hub.compare.view import View
    from tupate_hub.embedding import TaskEmbedding
    from tupate_hub.head import Head
    from tupate_hub.hub.remote import Remote
    from tupate_hub.storage.safetensors import TensorFile
    from tupate_hub.subspace.subspace import Subspace

ENVIRONMENT = "TUPATE_HUB_REGISTRY"


@dataclass(frozen=True)
class Zoo:
    """A folder with a `registry.json`, or one on the Hub. Every file is checked against it before it is used.

    `root` is the folder; where the files are in no folder of the zoo, but on the Hub, `remote` reads them.
    """

    root: Path
    registry: Registry
    remote: Remote | None = None

    @staticmethod
    def open(location: str | Path | None = None) -> Zoo:
        """Open a registry: `location`, else the environment's TUPATE_HUB_REGISTRY, else the bundled one.

        `location` is a folder, or a dataset repository of the Hub: `hf://datasets/OWNER/NAME[@REVISION]`, or
        `OWNER/NAME` where there is no such folder.

        Raises
        ------
        RegistryError
            When there is no registry, or it is not valid.
        NotAvailableOffline
            When it is on the Hub, not in the cache, and there is no network.
        TupateHubError
            When the Hub refuses, each time with its own sentence.
        """
        chosen = location or os.environ.get(ENVIRONMENT)
        if isinstance(chosen, str) and "/" in chosen and not os.path.exists(chosen):  # noqa: PTH110
            from tupate_hub.hub.cache import open_snapshot
            from tupate_hub.hub.location import DATASET, not_on_this_disk, parse_location

            if (place := parse_location(chosen, DATASET)) is not None:
                with not_on_this_disk(chosen):
                    remote, text = open_snapshot(place)
                return Zoo(remote.folder, parse_registry(text, remote.where(FILENAME), remote.read), remote)
        root = Path(chosen) if chosen else bundled_root()
        path = root / FILENAME
        try:
            text = path.read_bytes()
        except OSError as error:
            raise RegistryError(
                f"There is no registry in {root}: {FILENAME} {why_not(error)}.",
                hint="leave out `location` (and unset TUPATE_HUB_REGISTRY) for the bundled zoo",
            ) from error
        return Zoo(root, parse_registry(text, str(path), Folder(root).read))

    # --- bytes -------------------------------------------------------------------------------------------------

    def read_file(self, file: str, size: int, sha256: str) -> bytes:
        """The bytes of a file of the zoo, checked: inside the zoo, of the size and digest that the registry gives.

        Raises
        ------
        FormatError
            When the file leaves the zoo, is missing, truncated or has another content.
        NotAvailableOffline
            When it is on the Hub, not in the cache, and there is no network.
        """
        if self.remote is not None:
            return self.remote.read(file, size, sha256)
        return self._disk.read(file, size, sha256)

    @cached_property
    def _disk(self) -> Folder:
        return Folder(self.root)

    @property
    def folder(self) -> Path:
        """The folder of the zoo, to be written to.

        Raises
        ------
        TupateHubError
            When the zoo is on the Hub.
        """
        if self.remote is not None:
            raise TupateHubError(
                f"{self.remote.location} is on the Hub; only a folder can be written to.",
                hint="name a folder: `location=DIR`",
            )
        return self.root

    def where(self, file: str) -> str:
        """How messages name a file of the zoo."""
        return str(self.root / file) if self.remote is None else self.remote.where(file)

    def embedding(self, task: str, space: str | None = None) -> TaskEmbedding:
        """The embedding of a task, by name or alias, in a space; without one as `Registry.find`.

        Raises
        ------
        UnknownName
            For an unknown task or space, or a task that the space does not have.
        FormatError
            For a file that is damaged or belongs to another entry.
        NotKept
            When the registry has no file of it.
        """
        return self.load(self.registry.find(task, space))

    def outline(self, task: str, space: str | None = None) -> TaskEmbedding:
        """As `embedding`; of a zoo on the Hub the file's header alone is fetched, and the numbers may be zeros."""
        entry = self.registry.find(task, space)
        if self.remote is None:
            return self.load(entry)
        entry.require_file()
        from tupate_hub.storage.safetensors import parse_tensorfile

        data = self.remote.outline(entry.file, entry.bytes, entry.sha256)
        return self._embedding(entry, parse_tensorfile(data, self.where(entry.file)))

    def load(self, entry: Entry) -> TaskEmbedding:
        """The embedding of an entry; errors as in `embedding`."""
        entry.require_file()
        from tupate_hub.storage.safetensors import load_tensorfile

        data, where = self.read_file(entry.file, entry.bytes, entry.sha256), self.where(entry.file)
        return self._embedding(entry, load_tensorfile(data, where))

    def head(self, entry: Entry) -> Head | None:
        """The head of an entry's task, None where none is kept; a FormatError where its file is not that."""
        from tupate_hub.head import parse_head

        if not (place := entry.head):
            return None
        data = self.read_file(place["file"], place["bytes"], place["sha256"])
        return parse_head(data, self.where(place["file"]), task=entry.task)

    def _embedding(self, entry: Entry, file: TensorFile) -> TaskEmbedding:
        from tupate_hub.embedding import embedding_of

        where = self.where(entry.file)
        embedding = embedding_of(file, where)
        wanted = self.registry.space(entry.space).space
        if embedding.space != wanted:
            said = f"{where} holds {embedding.space}; the registry says {wanted}."
            raise SpaceMismatch(said, hint="tupate-hub verify")
        if embedding.task != entry.task:
            said = f"{where} holds task {embedding.task!r}; the registry says {entry.task!r}."
            raise FormatError(said, hint="tupate-hub verify")
        return embedding

    def kept(self, space: str) -> list[Entry]:
        """The entries of a space that have a file, in the registry's order."""
        return [entry for entry in self.registry.in_space(space) if entry.has_file]

    def load_space(self, space: str) -> list[TaskEmbedding]:
        """All embeddings of a space that have a file, in the registry's order; errors as in `embedding`."""
        entries = self.kept(space)
        if self.remote is not None:
            self.remote.prefetch((entry.file, entry.bytes, entry.sha256) for entry in entries)
        return [self.load(entry) for entry in entries]

    def pair_index(self, space: str, similarity: str) -> PairIndex:
        """The kernel of a space: the stored one where it fits the registry, else computed from the embeddings."""
        stored = self.stored_index(space, similarity)
        return stored if stored is not None else self.computed_index(space, similarity)

    def stored_index(self, space: str, similarity: str) -> PairIndex | None:
        """The index that the registry names, where it is of the space's embeddings; what it says is not recomputed.

        An embedding that it lacks must be one that does not compare with the others.
        """
        from tupate_hub.compare.pair_index import parse_pair_index

        place = self.registry.space(space).index.get(similarity)
        if place is None:
            return None
        stored = parse_pair_index(self.read_file(place["file"], place["bytes"], place["sha256"]), place["file"])
        has = dict(zip(stored.tasks, stored.digests, strict=True))
        entries = self.kept(space)
        listed = [(entry.task, entry.sha256) for entry in entries if entry.task in has]
        if (stored.space, stored.similarity) != (space, similarity) or listed != list(has.items()):
            return None
        return stored if len(self.left_out(space, stored)) == len(entries) - len(has) else None

    def left_out(self, space: str, index: PairIndex) -> dict[str, str]:
        """The tasks of a space that are not in an index because they do not compare with it, each with the reason."""
        from tupate_hub.compare.kernel import pack, pack_comparable

        entries = self.kept(space)
        missing = [entry for entry in entries if entry.task not in index.tasks]
        if not missing:
            return {}
        covariance = self.input_covariance_for(space, index.similarity)
        first = [self.load(entry) for entry in entries if entry.task in index.tasks[:1]]
        known = self.as_compared(space, index.similarity, first)
        like = pack(known, index.similarity, covariance) if known else None
        embeddings = self.as_compared(space, index.similarity, [*first, *(self.load(entry) for entry in missing)])
        return dict(pack_comparable(embeddings, index.similarity, covariance, like).left_out)

    def computed_index(self, space: str, similarity: str) -> PairIndex:
        """The kernel of a space, computed from its embeddings."""
        from tupate_hub.compare.pair_index import build_pair_index

        digests = [entry.sha256 for entry in self.kept(space)]
        covariance = self.input_covariance_for(space, similarity)
        embeddings = self.as_compared(space, similarity, self.load_space(space))
        return build_pair_index(space, similarity, embeddings, digests, covariance)

    def subspace(self, space: str | None = None, name: str | None = None) -> Subspace:
        """An intrinsic subspace of a space, the one of most dimensions without a name; a number of them is enough.

        Errors as `SpaceEntry.subspace`; SpaceMismatch or FormatError where its file is of another space or damaged.
        """
        from tupate_hub.subspace.subspace import parse_subspace

        entry = self.registry.space(space)
        place = entry.subspace(name)
        where = self.where(place["file"])
        found = parse_subspace(self.read_file(place["file"], place["bytes"], place["sha256"]), where)
        if found.space != entry.space:
            said = f"{where} is of {found.space}; the registry says {entry.space}."
            raise SpaceMismatch(said, hint="tupate-hub verify")
        return found

    def as_compared(self, space: str, similarity: str, embeddings: list[TaskEmbedding]) -> list[TaskEmbedding]:
        """Embeddings as a similarity compares them: themselves, or their coordinates in the space's subspace."""
        from tupate_hub.compare.similarity import get_similarity

        return self.subspace(space).coordinates(embeddings) if get_similarity(similarity).needs_subspace else embeddings

    def input_covariance_for(self, space: str, similarity: str) -> InputCovariance | None:
        """What `input_covariance` returns, where the similarity asks for it, else None."""
        from tupate_hub.compare.similarity import get_similarity

        return self.input_covariance(space) if get_similarity(similarity).needs_input_covariance else None

    def input_covariance(self, space: str) -> InputCovariance | None:
        """The covariance of the inputs of a space's base model, or None where the registry has none.

        Raises
        ------
        FormatError
            When their file is damaged or another base model's.
        """
        from tupate_hub.compare.input_covariance import parse_input_covariance

        entry = self.registry.space(space)
        if not entry.moments:
            return None
        file = entry.moments["file"]
        covariance = parse_input_covariance(self.read_file(file, entry.moments["bytes"], entry.moments["sha256"]), file)
        if covariance.base != entry.base:
            raise FormatError(f"{file} is of {covariance.base}, not of {entry.base}.", hint="tupate-hub verify")
        return covariance

    def verify(self, each: Callable[[Iterator[Entry]], Iterator[Entry]] = lambda entries: entries) -> list[str]:
        """Check every file against its hash and every header against its entry, and compute every index again.

        `each` may wrap the entries, for a progress bar. Returns a sentence for each that is wrong: an embedding that
        does not compare with the others of its space, an index that says something else than its embeddings.

        Raises
        ------
        WorkFailed, NotAvailableOffline
            When the Hub, the network or the disk failed, so that not everything was checked: after a few files, if all
            of them fail.
        """
        from tupate_hub.search.verify import verify

        return verify(self, each)

    # --- questions ---------------------------------------------------------------------------------------------

    def similar(
        self,
        query: str | Path | TaskEmbedding,
        k: int | None = None,
        *,
        space: str | None = None,
        view: View | None = None,
        explain: bool = False,
        fuse: str | None = None,
        base: str | None = None,
        exact: bool = False,
    ) -> Ranking:
        """Rank the tasks of a space by similarity to a task of the zoo, an adapter, or an embedding.

        Parameters
        ----------
        query : str, Path or TaskEmbedding
            A task's name or alias; else the path of an adapter file or folder, or a model repository of the Hub.
        k : int, optional
            How many neighbours; all of them by default.
        space : str, optional
            The name of the space to look in; by default that of the query, or the registry's default space.
        view : View, optional
            How to compare; by default `View("update")`: the similarity `update` over all blocks, not centred.
        explain : bool
            Also give what each block contributes to each score, and an interval of the score over blocks.
        fuse : str, optional
            `layers` or `similarities`: rank by each and merge by reciprocal rank fusion.
        base : str, optional
            The base model of an adapter that names none.
        exact : bool
            Compare with every embedding of a large space, where the nearest are otherwise found by sketches and the
            best of them compared (`Ranking.approximation`).

        Raises
        ------
        UnknownName
            For an unknown task, space or similarity.
        SpaceMismatch
            When the zoo has no space for the query's base model and method.
        FormatError
            When a file is damaged, or the query's update is all zero.
        """
        from tupate_hub.search import similar as search

        return search.similar(
            self, query, k, space=space, view=view, explain=explain, fuse=fuse, base=base, exact=exact
        )

    @cached_property
    def mapped(self) -> dict[str, Any]:
        """What was opened of large files that are mapped into memory, by their digests, as long as the zoo is."""
        return {}

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """The tasks that have an embedding, by name."""
        return {entry.task: self.registry.tasks[entry.task] for entry in self.registry.entries}

    def to_pandas(self) -> Any:
        """The embeddings as a `pandas.DataFrame`, a row each; a TupateHubError where pandas is not installed."""
        return data_frame(self.registry.rows())

    def _repr_html_(self) -> str:
        return html_table(self.registry.rows(), f"{len(self.registry.entries)} embeddings, {self.where('')}")


def bundled_root() -> Path:
    """Where the zoo lies that comes with the package: inside the wheel, or beside the package in a checkout.

    Raises
    ------
    RegistryError
        When neither has it.
    """
    package = Path(__file__).parent
    for root in (package / "bundled", package.parent):
        if (root / FILENAME).is_file():
            return root
    raise RegistryError(
        "The bundled zoo is missing from this installation.", hint="pip install --force-reinstall tupate-hub"
    )
