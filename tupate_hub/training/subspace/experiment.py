"""The experiment of IPT: subspaces found over some tasks, measured on those and on others, beside their controls.

Qin et al. 2021, section 4: random, classification and non-classification splits; five measurements each: decoded
without tuning on training and on unseen tasks, tuned on training tasks with the same data and with new data, and tuned
on unseen tasks; all relative to full tuning.
"""

from __future__ import annotations

import io
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from tupate_hub.arrays import Float32Array, Float64Array
from tupate_hub.errors import FormatError
from tupate_hub.evaluation.subspace_rows import SubspaceRow, Trial, append_subspace_rows, read_while_written
from tupate_hub.runrecord import Regime
from tupate_hub.storage.atomic import write_bytes
from tupate_hub.subspace.maps import Maps, pca, random_maps, with_tanh
from tupate_hub.training.subspace.encoder import FrozenEncoder
from tupate_hub.training.subspace.manytasks import ManyTasks
from tupate_hub.training.subspace.maps_in_torch import TorchMaps
from tupate_hub.training.subspace.msf import fit
from tupate_hub.training.subspace.tuning import Say, accuracies, first_codes, slower, tune_rows

#: The share of the tasks that a split finds its subspace over.
SEEN = 5 / 6
_NO_MAPS = ("none", "full")
_AGAIN = 1000


@dataclass(frozen=True)
class Plan:
    """How long and how hard each stage tunes.

    `hidden` is the least width of the decoder between its two layers; `turns` as in `fit`.
    """

    full: Regime
    fit: Regime
    tune: Regime
    hidden: int = 128
    turns: int = 1


@dataclass(frozen=True)
class Bench:
    """What all trials have in common: the model, the tasks with their families, where tuning starts, where rows go.

    `start` are the parameters that every task starts from, of shape (P,); `work` keeps the tuned ones. Of the tasks
    that a subspace is found over, the first `most_seen` are tuned in it.
    """

    encoder: FrozenEncoder
    many: ManyTasks
    families: Sequence[str]
    start: Float32Array
    plan: Plan
    table: Path
    work: Path
    method: str
    most_seen: int | None = None
    say: Say = field(default=lambda line: None)

    def run(self, trial: Trial) -> Maps | None:
        """Make a trial and write its rows; returns the maps that it has found."""
        began = time.perf_counter()
        if trial.maps in _NO_MAPS:
            rows = self._without_maps(trial)
            found = None
        else:
            found, rows = self._with_maps(trial)
        seconds = time.perf_counter() - began
        append_subspace_rows(self.table, [replace(row, seconds=seconds) for row in rows])
        return found

    # ---- tuning without a subspace ---------------------------------------------------------------------------------

    def _without_maps(self, trial: Trial) -> list[SubspaceRow]:
        if trial.maps == "none":
            return self._rows(trial, "none", range(len(self.many.tasks)), (), self._scores(self.many, None))
        rows = []
        draws = (("same", ""), ("new", "new_"))
        for measure, prefix in draws if trial.seed == 0 else draws[:1]:
            start = torch.from_numpy(np.tile(self.start, (len(self.many.tasks), 1)))
            regime = replace(self.plan.full, seed=trial.seed)
            tuned = tune_rows(self.encoder, self.many, start, regime, prefix=prefix, say=self.say)
            self._keep(f"{prefix}full-{trial.seed}", tuned.rows.cpu().numpy())
            scores = self._scores(self.many, tuned.rows)
            everyone = range(len(self.many.tasks))
            rows += self._rows(trial, measure, everyone, everyone, scores, tuned.held_out, regime.steps)
        return rows

    def _keep(self, name: str, array: Float32Array) -> None:
        stream = io.BytesIO()
        np.save(stream, array)
        write_bytes(self.work / f"{name}.npy", stream.getvalue())

    def tuned(self) -> Float32Array:
        """The fully tuned parameters of all tasks, of shape (tasks, P), of the first draw and seed 0.

        Raises
        ------
        FormatError
            When they are not there: the trial `full` makes them.
        """
        try:
            found: Float32Array = np.load(self.tuned_path, allow_pickle=False)
        except (OSError, ValueError) as error:
            said = f"{self.tuned_path} has no tuned parameters."
            raise FormatError(said, hint="make the trial of full tuning first") from error
        return found

    @property
    def tuned_path(self) -> Path:
        """Where they lie."""
        return self.work / "full-0.npy"

    # ---- the tasks -------------------------------------------------------------------------------------------------

    def counted(self) -> list[int]:
        """The tasks that count: those that full tuning makes better than the base model is."""
        rows = read_while_written(self.table)
        none = {row.task: row.score for row in rows if row.maps == "none"}
        full = {row.task: row.score for row in rows if row.maps == "full" and (row.measure, row.seed) == ("same", 0)}
        return [number for number, task in enumerate(self.many.tasks) if full.get(task, 0) > none.get(task, 1)]

    def split(self, trial: Trial) -> tuple[list[int], list[int]]:
        """The tasks to find a subspace over, and the unseen ones: drawn by the seed among those that count."""
        counted = self.counted()
        random.Random(f"tupate-hub subspace split:{trial.seed}").shuffle(counted)
        own = [number for number in counted if trial.split in ("random", self.families[number])]
        cut = round(len(own) * SEEN)
        unseen = [number for number in counted if number not in own[:cut]]
        return own[: min(cut, trial.fitted_on or cut)], unseen

    # ---- with a subspace -------------------------------------------------------------------------------------------

    def maps(self, trial: Trial, seen: Sequence[int]) -> Maps:
        """The maps of a trial, found over the tasks `seen`."""
        flat = self.tuned()[list(seen)]
        straight = pca(flat, trial.dim, trial.seed)
        if trial.maps.startswith("random"):
            origin = self.start if trial.maps == "random" else flat.mean(axis=0)
            return random_maps(
                origin, float(np.sqrt((straight.decoder[0].weight ** 2).sum(0)).mean()), trial.dim, trial.seed
            )
        if trial.maps == "pca":
            return straight
        bent = with_tanh(straight, max(self.plan.hidden, trial.dim), trial.seed) if trial.maps == "msf" else straight
        regime = replace(self.plan.fit, seed=trial.seed)
        return fit(
            self.encoder,
            self.many.select(seen),
            torch.from_numpy(flat),
            bent,
            regime,
            turns=self.plan.turns,
            say=self.say,
        ).maps

    def _with_maps(self, trial: Trial) -> tuple[Maps, list[SubspaceRow]]:
        seen, unseen = self.split(trial)
        found = self.maps(trial, seen)
        learned = TorchMaps(found, self.encoder.device)
        everyone = [*seen, *unseen]
        many = self.many.select(everyone)
        flat = torch.from_numpy(self.tuned()[everyone]).to(self.encoder.device)
        rows = self._rows(trial, "decoded", everyone, seen, self._scores(many, learned.decode(learned.encode(flat))))
        some_seen = seen[: self.most_seen]
        codes, tuned = self._in_subspace(trial, learned, "same", [*some_seen, *unseen], seen)
        rows += tuned
        rows += self._in_subspace(trial, learned, "new", some_seen, seen)[1]
        if (trial.maps, trial.split) == ("msf", "random") and seen == self.split(replace(trial, fitted_on=0))[0]:
            rows += self._in_subspace(trial, learned, "again", unseen, seen)[1]
            rows += self._then_full(trial, learned.decode(codes[len(some_seen) :]), unseen)
        return found, rows

    def _in_subspace(
        self, trial: Trial, learned: TorchMaps, measure: str, chosen: Sequence[int], seen: Sequence[int]
    ) -> tuple[torch.Tensor, list[SubspaceRow]]:
        """Intrinsic subspace tuning of some tasks: their coordinates, and the rows. `again` has another seed."""
        seed = trial.seed + (_AGAIN if measure == "again" else 0)
        regime = replace(self.plan.tune, seed=seed, learning_rate=self.plan.tune.learning_rate * slower(trial.dim))
        some = self.many.select(chosen)
        tuned = tune_rows(
            self.encoder, some, first_codes(len(chosen), trial.dim, seed), regime,
            flat_of=learned.decode, prefix="new_" if measure == "new" else "", say=self.say,
        )  # fmt: skip
        scores = self._scores(some, learned.decode(tuned.rows))
        return tuned.rows, self._rows(trial, measure, chosen, seen, scores, tuned.held_out, regime.steps)

    def _then_full(self, trial: Trial, start: torch.Tensor, chosen: Sequence[int]) -> list[SubspaceRow]:
        """The paper's stage two: full tuning that starts from what tuning in the subspace has found."""
        some, regime = self.many.select(chosen), replace(self.plan.full, seed=trial.seed)
        tuned = tune_rows(self.encoder, some, start, regime, say=self.say)
        scores = self._scores(some, tuned.rows)
        return self._rows(trial, "then-full", chosen, (), scores, tuned.held_out, regime.steps)

    def _scores(self, many: ManyTasks, flat: torch.Tensor | None) -> Float64Array:
        return accuracies(self.encoder, many, "validation", flat)

    def _rows(
        self,
        trial: Trial,
        measure: str,
        numbers: Sequence[int],
        seen: Sequence[int],
        scores: Float64Array,
        held_out: Float64Array | None = None,
        steps: int = 0,
    ) -> list[SubspaceRow]:
        fit_steps = self.plan.fit.steps if trial.maps in ("msf", "linear") else 0
        return [
            SubspaceRow(
                trial.maps, trial.split, trial.seed, trial.dim, trial.fitted_on, measure, self.many.tasks[number],
                self.families[number], number in seen, float(scores[at]),
                None if held_out is None else float(held_out[at]), steps, fit_steps, self.method,
                self.encoder.device.type, torch.__version__, 0.0,
            )
            for at, number in enumerate(numbers)
        ]  # fmt: skip
