"""Kernel: the inner products of embeddings block by block, on stacked factors, and the centring of them.

Scores, contributions and centred scores all derive from a kernel's three arrays; `similarity` has the formula.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tupate_hub.arrays import Float64Array
from tupate_hub.compare.input_covariance import InputCovariance
from tupate_hub.compare.lowrank import Factors, Stack, stack, stacked_inner, stacked_squares
from tupate_hub.compare.similarity import COORDINATES, DEFAULT, Similarity, get_similarity
from tupate_hub.embedding import TaskEmbedding, shared_names
from tupate_hub.errors import FormatError, SpaceMismatch, UnknownName, WorkFailed
from tupate_hub.space import Space

#: Of memory, for the inner products of all pairs: some 4,000 LoRAs of 60 blocks, 30,000 vectors.
MOST_BYTES = 8_000_000_000
_EQUAL = "compares coordinates, which needs equal ranks"


@dataclass(frozen=True)
class Pack:
    """Embeddings of one space with the factors of a similarity stacked block by block, ready to be ranked against.

    `left_out` says why tasks are not among them, where `pack_comparable` made it.
    """

    similarity: str
    tasks: tuple[str, ...]
    stacks: Mapping[str, Stack]
    squares: Float64Array
    space: Space | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def blocks(self) -> tuple[str, ...]:
        """The names of the blocks, in the order of the rows of `squares`, whose shape is (blocks, tasks)."""
        return tuple(self.stacks)


def pack(
    embeddings: Sequence[TaskEmbedding], similarity: str = DEFAULT, covariance: InputCovariance | None = None
) -> Pack:
    """Stack the factors of embeddings of one space, with the covariance of its inputs where the similarity asks for it.

    Raises
    ------
    SpaceMismatch
        For embeddings of two spaces, or coordinates of different shapes (`tupate` needs equal ranks).
    FormatError
        For an embedding whose update is all zero, or too large for float32: it has no direction.
    """
    chosen = _usable(similarity, covariance)
    space = _one_space([embedding.space for embedding in embeddings])
    features = [_features(embedding, chosen, covariance) for embedding in embeddings]
    names, tasks = shared_names(embeddings), [embedding.task for embedding in embeddings]
    for name in names:
        owners = [(task, blocks[name]) for task, blocks in zip(tasks, features, strict=True) if name in blocks]
        _require_one_shape([update for _, update in owners], [task for task, _ in owners], name, similarity)
    found = _stacked(tasks, features, names, similarity, space)
    for task, why in _without_direction(found).items():
        raise FormatError(f"The update of {task!r} {why}.")
    return found


def pack_comparable(
    embeddings: Sequence[TaskEmbedding],
    similarity: str = DEFAULT,
    covariance: InputCovariance | None = None,
    like: Pack | None = None,
) -> Pack:
    """As `pack`, without what does not compare, so that one bad embedding leaves the others of its space alone.

    Left out are updates that are all zero or too large to measure, and blocks of another shape than that of `like`,
    where it has the block, else than most others'.

    Raises
    ------
    UnknownName, SpaceMismatch
        As `pack`, for a similarity that asks for what there is not, or embeddings of two spaces.
    """
    chosen = _usable(similarity, covariance)
    space = _one_space([embedding.space for embedding in embeddings])
    features, left_out = {}, {}
    for embedding in embeddings:
        try:
            features[embedding.task] = _features(embedding, chosen, covariance)
        except SpaceMismatch as error:  # a width that the base model does not have
            left_out[embedding.task] = error.message.rstrip(".")
    left_out |= _of_other_shapes(features, {one.task: one for one in embeddings}, similarity, like)
    while True:
        tasks = [task for task in features if task not in left_out]
        names = shared_names([embedding for embedding in embeddings if embedding.task in tasks])
        found = _stacked(tasks, [features[task] for task in tasks], names, similarity, space)
        bad = _without_direction(found)
        if not bad:
            return replace(found, left_out=left_out)
        left_out |= {task: f"its update {why}" for task, why in bad.items()}


def _usable(similarity: str, covariance: InputCovariance | None) -> Similarity:
    chosen = get_similarity(similarity)
    if chosen.needs_input_covariance and covariance is None:
        raise UnknownName(
            f"{similarity!r} needs statistics of the base model, which this registry does not have.",
            hint="`similarity='update'`, or measure them: tupate-hub stats BASE_FOLDER",
        )
    return chosen


def _features(embedding: TaskEmbedding, chosen: Similarity, covariance: InputCovariance | None) -> dict[str, Factors]:
    with np.errstate(over="ignore", invalid="ignore"):  # told afterwards, with the task's name
        return {block.name: chosen.features(block, covariance) for block in embedding.blocks}


def _stacked(
    tasks: Sequence[str],
    features: Sequence[Mapping[str, Factors]],
    names: Sequence[str],
    similarity: str,
    space: Space | None,
) -> Pack:
    stacks, squares = {}, np.zeros((len(names), len(tasks)))
    for row, name in enumerate(names):
        owners = [index for index, blocks in enumerate(features) if name in blocks]
        with np.errstate(over="ignore", invalid="ignore"):
            stacks[name] = stack([features[index][name] for index in owners], owners)
            squares[row, owners] = stacked_squares(stacks[name])
    return Pack(similarity, tuple(tasks), stacks, squares, space)


def _without_direction(found: Pack) -> dict[str, str]:
    """What is wrong with updates whose squared norm is no positive number, by task."""
    return {
        task: "is all zero: it was never trained" if np.isfinite(total) else "is too large to measure: it diverged"
        for task, total in zip(found.tasks, found.squares.sum(axis=0), strict=True)
        if not (np.isfinite(total) and total > 0)
    }


def _of_other_shapes(
    features: Mapping[str, Mapping[str, Factors]],
    embeddings: Mapping[str, TaskEmbedding],
    similarity: str,
    like: Pack | None,
) -> dict[str, str]:
    """The tasks that have a block of another shape than it is to have, each with the first such block."""
    shapes: dict[str, dict[str, tuple[int, int]]] = {}
    for task, blocks in features.items():
        for name, update in blocks.items():
            shapes.setdefault(name, {})[task] = _shape(update)
    found: dict[str, str] = {}
    for name, by_task in shapes.items():
        usual = Counter(by_task.values()).most_common(1)[0][0]
        wanted = _shape(like.stacks[name]) if like is not None and name in like.stacks else usual
        for task, shape in by_task.items():
            if shape != wanted:
                parts = embeddings[task].by_name[name].parts.items()
                real = ", ".join(f"{part} {' x '.join(map(str, array.shape))}" for part, array in parts)
                found.setdefault(task, f"its block {name!r} ({real}) {_unlike(shape, wanted, similarity)}")
    return found


def _unlike(shape: tuple[int, int], wanted: tuple[int, int], similarity: str) -> str:
    if similarity in COORDINATES:
        return f"has {shape[0]} numbers, not {wanted[0]}: {similarity} needs equal ranks"
    return f"takes {shape[0]} inputs to {shape[1]} outputs, not {wanted[0]} to {wanted[1]}"


def _shape(update: Factors | Stack) -> tuple[int, int]:
    return update.a.shape[1], update.bt.shape[1]


@dataclass(frozen=True)
class Kernel:
    """Inner products per block: `blocks` their names, `cross` of shape (blocks, x, y), and both sides' squared norms.

    `x_squares` has shape (blocks, x), `y_squares` (blocks, y). Scores and contributions derive from these three.
    """

    blocks: tuple[str, ...]
    cross: Float64Array
    x_squares: Float64Array
    y_squares: Float64Array

    def select(self, chosen: Sequence[str]) -> Kernel:
        """The kernel over some of the blocks."""
        rows = [self.blocks.index(name) for name in chosen]
        return Kernel(tuple(chosen), self.cross[rows], self.x_squares[rows], self.y_squares[rows])

    def balanced(self) -> Kernel:
        """Every block normalised on its own, so that blocks with large updates do not speak for all."""
        sides = [np.sqrt(squares) for squares in (self.x_squares, self.y_squares)]
        cross = divided(self.cross, sides[0][:, :, None] * sides[1][:, None, :])
        return Kernel(self.blocks, cross, (self.x_squares > 0).astype(float), (self.y_squares > 0).astype(float))

    def normalised(self) -> Kernel:
        """Every embedding scaled to norm one, so that a single large one does not move the mean of a zoo."""
        x, y = (np.sqrt(squares.sum(axis=0)) for squares in (self.x_squares, self.y_squares))
        cross = divided(self.cross, x[:, None] * y)
        return Kernel(self.blocks, cross, divided(self.x_squares, x**2), divided(self.y_squares, y**2))

    def coverage(self) -> tuple[Float64Array, Float64Array]:
        """How much of each side's squared norm lies in blocks that both have: two shares of shape (x, y)."""
        has_x, has_y = (self.x_squares > 0).astype(float), (self.y_squares > 0).astype(float)
        of_x = (self.x_squares.T @ has_y) / self.x_squares.sum(axis=0)[:, None]
        of_y = (has_x.T @ self.y_squares) / self.y_squares.sum(axis=0)[None, :]
        return of_x, of_y

    def scores(self) -> Float64Array:
        """Cosines, of shape (x, y), in [-1, 1]."""
        return np.asarray(self.contributions().sum(axis=0))

    def contributions(self) -> Float64Array:
        """What each block adds to the score, of shape (blocks, x, y); 0 where a side has none of the blocks."""
        return divided(self.cross, np.sqrt(np.outer(self.x_squares.sum(axis=0), self.y_squares.sum(axis=0))))


def kernel(x: Pack, y: Pack) -> Kernel:
    """Inner products between all embeddings of two packs of one similarity.

    Raises
    ------
    SpaceMismatch
        For packs of two spaces, or blocks of different shapes.
    WorkFailed
        When there are so many that the inner products would fill the memory.
    """
    _one_space([side.space for side in (x, y) if side.space is not None])
    names = tuple(dict.fromkeys((*x.blocks, *y.blocks)))
    size = 8 * len(names) * len(x.tasks) * len(y.tasks)
    if size > MOST_BYTES:
        raise WorkFailed(
            f"To compare {len(x.tasks)} embeddings with {len(y.tasks)} takes {size / 1e9:.0f} GB of memory; at most "
            f"{MOST_BYTES / 1e9:.0f} are used.",
            hint="make registries of fewer embeddings",
        )
    cross = np.zeros((len(names), len(x.tasks), len(y.tasks)))
    x_squares, y_squares = (np.zeros((len(names), len(side.tasks))) for side in (x, y))
    for row, name in enumerate(names):
        for side, squares in ((x, x_squares), (y, y_squares)):
            if name in side.stacks:
                squares[row] = side.squares[side.blocks.index(name)]
        if name in x.stacks and name in y.stacks:
            first, second = x.stacks[name], y.stacks[name]
            if _shape(first) != _shape(second):
                raise SpaceMismatch(
                    f"Block {name!r} has another shape in {x.tasks[0]!r} than in the zoo"
                    + (f": {x.similarity} {_EQUAL}." if x.similarity in COORDINATES else "."),
                    hint="`similarity='update'`" if x.similarity in COORDINATES else "",
                )
            cross[row][np.ix_(first.owners, second.owners)] = stacked_inner(first, second)
    return Kernel(names, cross, x_squares, y_squares)


@dataclass(frozen=True)
class Origin:
    """The mean of a zoo in a similarity's feature space, by its inner products; see `centred`.

    `means` are those with every task, of shape (..., tasks); `square` is that with itself, of shape (...).
    """

    means: Float64Array
    square: Float64Array

    @staticmethod
    def of(zoo: Float64Array) -> Origin:
        """The mean of the tasks whose kernel is `zoo`, of shape (..., tasks, tasks)."""
        return Origin(zoo.mean(axis=-2), zoo.mean(axis=(-2, -1)))

    def cross(self, rows: Float64Array) -> Float64Array:
        """Inner products with the tasks after moving the origin to the mean; `rows` of shape (..., queries, tasks)."""
        own = rows.mean(axis=-1, keepdims=True)
        return np.asarray(rows - own - self.means[..., None, :] + self.square[..., None, None])

    def squares(self, rows: Float64Array, squares: Float64Array) -> Float64Array:
        """Squared norms of the queries after the move, never below 0; `squares` of shape (..., queries) before it."""
        return np.asarray(np.maximum(squares - 2 * rows.mean(axis=-1) + self.square[..., None], 0))


def centred(zoo: Float64Array, query: Float64Array | None = None, query_square: float = 0.0) -> Float64Array:
    """Cosines after centring the feature space over the zoo, from uncentred kernels alone.

    With `zoo` the (n, n) kernel of the zoo, the doubly centred kernel is H K H, H = I - 1/n; a query q with k(q, zoo)
    = `query`, of shape (n,), and k(q, q) = `query_square` is moved by the same mean (Schölkopf, Smola and Müller 1998,
    appendix A).

    Returns
    -------
    The (n, n) centred cosines, or those of the query, of shape (n,).
    """
    origin = Origin.of(zoo)
    zoo_squares = origin.squares(zoo, np.diag(zoo))
    if query is None:
        return divided(origin.cross(zoo), np.sqrt(np.outer(zoo_squares, zoo_squares)))
    rows = query[None, :]
    square = origin.squares(rows, np.array([query_square]))
    return divided(origin.cross(rows)[0], np.sqrt(square * zoo_squares))


def divided(cross: Float64Array, norms: Float64Array) -> Float64Array:
    """Inner products by the products of both norms; 0 where a side has no norm."""
    return np.divide(cross, np.broadcast_to(norms, cross.shape), out=np.zeros_like(cross), where=norms > 0)


def off_diagonal(matrix: Float64Array) -> Float64Array:
    """The entries above the diagonal of an (n, n) matrix, row by row: each pair once."""
    return np.asarray(matrix[np.triu(np.ones(matrix.shape, dtype=bool), k=1)])


def _one_space(spaces: Sequence[Space]) -> Space | None:
    if len(set(spaces)) > 1:
        first, second = sorted(set(spaces))[:2]
        raise SpaceMismatch(f"Embeddings of two spaces do not compare: {first} and {second}.")
    return spaces[0] if spaces else None


def _require_one_shape(updates: Sequence[Factors], tasks: Sequence[str], name: str, similarity: str) -> None:
    shapes = [_shape(update) for update in updates]
    for shape, task in zip(shapes, tasks, strict=True):
        if shape != shapes[0]:
            why = f": {similarity} {_EQUAL}" if similarity in COORDINATES else ""
            raise SpaceMismatch(
                f"Block {name!r} has shape {shape} in {task!r} and {shapes[0]} in {tasks[0]!r}{why}.",
                hint="`similarity='update'`" if similarity in COORDINATES else "",
            )
