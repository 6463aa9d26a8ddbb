"""Make the tables of docs/evaluation.md: similarities judged by published transfer, and strangers' LoRA neighbours.

    python scripts/evaluation/compare_similarities.py FOLDER

FOLDER holds `adapters/` and `truth/` as docs/evaluation.md describes. Tables replace what lies between the page's
markers; a rerun gives the same bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from prompt_variants import VARIANTS

from tupate_hub.arrays import Float64Array
from tupate_hub.compare.kernel import kernel, pack
from tupate_hub.compare.lowrank import Factors, inner
from tupate_hub.embedding import Block, TaskEmbedding, embed
from tupate_hub.evaluation.baselines import BASELINES, judge, source_mean
from tupate_hub.evaluation.evaluate import Report, Summary, difference, evaluate
from tupate_hub.evaluation.metrics import METRICS, bootstrap_interval
from tupate_hub.evaluation.truth import Truth, align, read_truth
from tupate_hub.publish.table import fill_tables, markdown_table
from tupate_hub.readers import read_adapter

PAGE = Path(__file__).parents[2] / "docs" / "evaluation.md"
SUFFIXES = {"roberta-base": "Roberta", "t5-small": "T5Small"}
TRUTHS = {"roberta-base": "su2022_prompt_roberta_base", "t5-small": "su2022_prompt_t5_small"}
OLDER = "su2022_prompt_roberta_base_posemb"
REFERENCE = next(iter(VARIANTS))

#: What strangers' LoRA were tuned on, by the start of their folder's name, and the groups that share a base model.
LORAS: Mapping[str, Mapping[str, str]] = {
    "distilbert-base-uncased": {
        "Tashu014__": "IMDB (Tashu014)",
        "SowravPawar__": "IMDB (SowravPawar)",
        "dayanidhi04__": "emotion (dayanidhi04)",
        "Karangarg01__": "toxicity (Karangarg01)",
        "arshiaanjum__": "college FAQ (arshiaanjum)",
        "eranmoss__": "IMDB (eranmoss; base fine-tuned on SST-2)",
    },
    "gpt2": {
        "logan-lev__": "IMDB (logan-lev)",
        "fegbewunmi__": "IMDB (fegbewunmi)",
        "anirudh-ak__": "emotion (anirudh-ak)",
        "b-ritter__": "AG News (b-ritter)",
        "hitoshikumagai__": "SMS spam (hitoshikumagai)",
        "TheSotti__": "financial sentiment (TheSotti)",
        "yoonyerin__": "tables (yoonyerin)",
    },
    "bert-base-uncased": {
        "Hareshjethani__": "feedback sentiment (Hareshjethani)",
        "schadow98__": "tweet sentiment (schadow98)",
    },
    "gemma-3-270m-it": {
        "ao-wei__": "SVG logos (ao-wei)",
        "zouhe0__": "SVG logos (zouhe0)",
        "0112LY__": "SVG logos (0112LY)",
    },
}


@dataclass(frozen=True)
class Case:
    """Prompts of one backbone, of shape (tasks, positions, width), and a table of truth about the same tasks."""

    name: str
    tasks: tuple[str, ...]
    prompts: Float64Array
    truth: Truth

    def judged(self, name: str) -> Report:
        """The report of one variant."""
        return evaluate(align(self.truth, self.tasks, VARIANTS[name](self.prompts)), self.truth, name)


def read_prompts(folder: Path, base: str) -> dict[str, TaskEmbedding]:
    ending = f"Prompt{SUFFIXES[base]}"
    found = {}
    for path in sorted((folder / "adapters").glob(f"*__*{ending}")):
        task = path.name.rpartition("__")[2].removesuffix(ending)
        found[task] = embed(read_adapter(path, base=base, task=task), task)
    return found


def case(name: str, prompts: Mapping[str, TaskEmbedding], truth: Truth) -> Case:
    known = truth.restricted_to(prompts)
    tasks = tuple(sorted({*known.targets, *known.sources}))
    rows = np.stack([prompts[task].blocks[0].parts["rows"] for task in tasks]).astype(np.float64)
    return Case(name, tasks, rows, known)


def cases(folder: Path) -> tuple[dict[str, Case], list[Case]]:
    """The backbones with their own truth, and the checks: the same prompts with another run's or backbone's truth."""
    tables = {name: read_truth(folder / "truth" / f"{name}.csv") for name in (*TRUTHS.values(), OLDER)}
    prompts = {base: read_prompts(folder, base) for base in TRUTHS}
    own = {base: case(base, prompts[base], tables[name]) for base, name in TRUTHS.items()}
    checks = [
        case(f"{base} on {name}", prompts[base], tables[name])
        for base in TRUTHS
        for name in tables
        if name != TRUTHS[base]
    ]
    return own, checks


def interval(found: Summary) -> str:
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def pooled(parts: Sequence[Float64Array]) -> str:
    values = np.concatenate(parts)
    low, high = bootstrap_interval(values)
    return f"{values.mean():+.3f} [{low:+.3f}, {high:+.3f}]"


def variants_table(own: Mapping[str, Case], checks: Sequence[Case]) -> str:
    reference = {base: one.judged(REFERENCE) for base, one in own.items()}

    def row(name: str) -> Sequence[str]:
        reports = {base: one.judged(name) for base, one in own.items()}
        means = [report.summary("ndcg_rank").mean for report in reports.values()]
        against = [difference(report, reference[base]) for base, report in reports.items()]
        both = pooled(
            [report.values["ndcg_rank"] - reference[base].values["ndcg_rank"] for base, report in reports.items()]
        )
        check = np.mean([one.judged(name).summary("ndcg_rank").mean for one in checks])
        lost = [f"{report.summary('regret@1').mean:.1f}" for report in reports.values()]
        return [
            name,
            *(f"{mean:.3f}" for mean in means),
            f"{np.mean(means):.3f}",
            *(("", "", "") if name == REFERENCE else (*(interval(one) for one in against), both)),
            f"{check:.3f}",
            " / ".join(lost),
        ]

    gains = [f"{base}: minus the mean's" for base in own]
    header = ["similarity", *own, "average", *gains, "both, pooled", "checks", "regret@1"]
    return markdown_table(header, (row(name) for name in VARIANTS))


def library_table(own: Mapping[str, Case], folder: Path) -> Iterator[Sequence[str]]:
    """The mean through the library's own reader and kernel, and flattening, beside the baselines, by every metric."""
    for base, one in own.items():
        prompts = read_prompts(folder, base)
        packed = pack([prompts[task] for task in one.tasks], "update")
        flat = VARIANTS["flattened"](one.prompts)
        predictors = {"`update` (the mean)": kernel(packed, packed).scores(), "flattened": flat}
        aligned = {name: align(one.truth, one.tasks, scores) for name, scores in predictors.items()}
        aligned |= {name: blend(aligned["`update` (the mean)"], one.truth) for name, blend in BLENDS.items()}
        for report in judge(aligned, one.truth):
            found = {metric: report.summary(metric) for metric in METRICS if not metric.endswith("_percent")}
            first = found["ndcg_rank"]
            yield [
                base,
                report.name if report.name not in BASELINES else f"*{report.name}*",
                f"{first.mean:.3f} [{first.low:.3f}, {first.high:.3f}]",
                f"{first.spread:.3f}",
                *(f"{found[metric].mean:.3f}" for metric in ("ndcg_score", "spearman")),
                *(f"{found[metric].mean:.1f}" for metric in ("rank_of_best", "regret@1", "regret@3", "regret@5")),
            ]


def with_source_mean(scores: Float64Array, truth: Truth) -> Float64Array:
    return scores + 0.1 * source_mean(truth)


def similar_targets(scores: Float64Array, truth: Truth, temperature: float = 0.05) -> Float64Array:
    """What each source did for the other targets, weighed by how similar they are to this one."""
    results = truth.fractions()
    effects = (results - results.mean(axis=1, keepdims=True)) / results.std(axis=1, keepdims=True)
    weights = np.exp(scores / temperature)
    np.fill_diagonal(weights, 0)
    return weights @ effects / weights.sum(axis=1, keepdims=True)


#: Predictors that also use the truth about the other targets, never about the one that they are judged on.
BLENDS = {"the mean + source-mean / 10": with_source_mean, "what similar targets gained": similar_targets}


def targets_table(own: Mapping[str, Case]) -> Iterator[Sequence[str]]:
    for base, one in own.items():
        report = one.judged(REFERENCE)
        for row, target in enumerate(report.targets):
            numbers = (report.values["ndcg_rank"][row], report.values["regret@1"][row])
            yield [base, target, report.picked[row], report.best[row], f"{numbers[0]:.2f}", f"{numbers[1]:.1f}"]


def neighbours_table(folder: Path) -> Iterator[Sequence[str]]:
    for base, names in LORAS.items():
        embeddings = []
        for start, name in names.items():
            (path,) = (folder / "adapters").glob(f"{start}*")
            embeddings.append(embed(read_adapter(path, base=base), name))
        scores = {name: _scores(embeddings, name) for name in ("update", "tupate", "outputs")}
        for row, one in enumerate(embeddings):
            yield [base, one.task, *(_nearest(scores[name][row], row, embeddings) for name in scores)]


def _scores(embeddings: Sequence[TaskEmbedding], similarity: str) -> Float64Array:
    """Scores of all pairs; NaN where the coordinates of two do not compare."""
    scores = np.full((len(embeddings), len(embeddings)), np.nan)
    for row, first in enumerate(embeddings):
        for column, second in enumerate(embeddings):
            if similarity == "outputs":
                products = (_outputs(first, first), _outputs(second, second))
                scores[row, column] = _outputs(first, second) / np.sqrt(products[0] * products[1])
            elif similarity == "update" or _coordinates(first) == _coordinates(second):
                scores[row, column] = kernel(pack([first], similarity), pack([second], similarity)).scores()[0, 0]
    return scores


def output_factors(block: Block) -> Factors:
    """The factors of W Wᵀ for the update W = s B A: where it writes, whatever it reads and with whatever sign.

    With A Aᵀ = L Lᵀ it is M Mᵀ, M = s B L of shape (out, r).
    """
    a, b = block.parts["A"].astype(np.float64), block.parts["B"].astype(np.float64)
    values, vectors = np.linalg.eigh(a @ a.T)
    rows = (block.scale * b @ (vectors * np.sqrt(np.maximum(values, 0)))).T.astype(np.float32)
    return Factors(rows, rows)


def _outputs(first: TaskEmbedding, second: TaskEmbedding) -> float:
    shared = [name for name in first.by_name if name in second.by_name]
    return sum(inner(output_factors(first.by_name[name]), output_factors(second.by_name[name])) for name in shared)


def _coordinates(one: TaskEmbedding) -> set[tuple[str, tuple[int, ...]]]:
    return {(f"{block.name}.{part}", array.shape) for block in one.blocks for part, array in block.parts.items()}


def _nearest(scores: Float64Array, row: int, embeddings: Sequence[TaskEmbedding], count: int = 2) -> str:
    others = [index for index in range(len(scores)) if index != row and np.isfinite(scores[index])]
    best = sorted(others, key=lambda index: -scores[index])[:count]
    return ", ".join(f"{embeddings[index].task} {scores[index]:.3f}" for index in best) or "no other of its shapes"


def main(folder: Path) -> None:
    own, checks = cases(folder)
    catalogue = ["backbone", "predictor", "NDCG", "spread", "score NDCG", "Spearman", "rank of best"]
    tables: Mapping[str, Callable[[], str]] = {
        "library": lambda: markdown_table([*catalogue, "regret@1", "regret@3", "regret@5"], library_table(own, folder)),
        "variants": lambda: variants_table(own, checks),
        "targets": lambda: markdown_table(
            ["backbone", "target", "first pick", "truly best", "NDCG", "regret@1"], targets_table(own)
        ),
        "neighbours": lambda: markdown_table(
            ["base", "adapter", "by `update`", "by `tupate`", "by outputs"], neighbours_table(folder)
        ),
    }
    page = fill_tables(PAGE.read_text(encoding="utf-8"), {name: make() for name, make in tables.items()})
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
