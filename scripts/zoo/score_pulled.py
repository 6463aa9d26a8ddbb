"""Score the zoo's tasks from what `pull TASK --as peft` makes, loaded by PEFT alone: zoo/truth/pulled.csv.

The folder is loaded as anybody would, by PeftModel into the class of transformers for the kind of task, and scored
on the validation examples that the head was scored on. `recorded` is the score that the registry has for the embedding
with its head, `pulled` is PEFT's. A row is written as soon as its task is done, and what is there is left alone unless
the head has changed. With --check nothing is scored: every row has to agree with the registry.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parents[2]
ROWS = ROOT / "zoo" / "truth" / "pulled.csv"
COLUMNS = ("task", "head_sha256", "examples", "recorded", "pulled")
#: One example in 1,000 may fall on the other side where logits are equal to rounding; spans lie closer together.
MOST_APART = 0.0021


def load_pulled(folder: Path, head: Any, base: Path) -> Any:
    """The model that PEFT makes of a pulled folder, on the base model in a folder of this disk."""
    import transformers
    from peft import PeftModel

    from tupate_hub.export.readme import class_of_kind

    config = folder / "adapter_config.json"
    named = {**json.loads(config.read_text(encoding="utf-8")), "base_model_name_or_path": str(base)}
    config.write_text(json.dumps(named), encoding="utf-8")
    labels = {"id2label": dict(enumerate(head.label_names))} if head.label_names else {}
    outputs = {} if head.kind in ("extractive_qa", "multiple_choice") else {"num_labels": head.outputs}
    model = getattr(transformers, class_of_kind(head.kind)).from_pretrained(str(base), **outputs, **labels)
    return PeftModel.from_pretrained(model, str(folder)).eval()


def answers_of(model: Any, tuned: Any, examples: Any) -> list[Any]:
    """What a model of transformers answers, on the very features that the tuned one would see."""
    import torch

    from tupate_hub.training.model import batches_to_score, values_of

    features = tuned.features(examples)
    kind, found = tuned.head.kind, {}
    with torch.inference_mode():
        for chosen, batch in batches_to_score(kind, features, tuned.tokenizer.pad_token_id):
            found.update(zip(chosen, values_of(model(**batch), kind), strict=True))
    rows = [found[position] for position in range(len(features))]
    if kind == "extractive_qa":
        import numpy as np

        rows = [np.stack(pair, axis=-1) for pair in rows]
    return tuned.labels(rows, examples, features)


def score_pulled(zoo: Any, task: str, space: str, data: Path) -> tuple[int, float]:
    """How many examples, and the score of the pulled folder on them."""
    from tupate_hub.data.dataset import load_task
    from tupate_hub.export import export
    from tupate_hub.storage.atomic import write_folder
    from tupate_hub.training.basemodel import find_base
    from tupate_hub.training.scoring import gold_labels, score
    from tupate_hub.training.tuned import Tuned

    entry = zoo.registry.entry(task, space)
    embedding, head, base = zoo.load(entry), zoo.head(entry), find_base(None).folder
    labelled = load_task(data, task)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "pulled"
        write_folder(folder, export(embedding, "peft", head=head))
        model = load_pulled(folder, head, base)
    answers = answers_of(model, Tuned.of(base, embedding, head), labelled.validation)
    gold = gold_labels(labelled, labelled.validation)
    return len(gold), score(labelled.metric, gold, answers)["primary"]


def apart(rows: list[dict[str, str]], entries: dict[str, Any]) -> list[str]:
    """A sentence for each row that does not agree with the registry."""
    wrong = []
    for row in rows:
        entry = entries.get(row["task"])
        if entry is None or entry.head["sha256"] != row["head_sha256"]:
            wrong.append(f"{row['task']}: the row is of another head")
        elif abs(float(row["pulled"]) - entry.head["scores"]["primary"]) > MOST_APART:
            wrong.append(f"{row['task']}: {row['pulled']} from the pulled folder, {row['recorded']} recorded")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder as in docs/data.md")
    parser.add_argument("--tasks", nargs="+", help="these tasks [default: all that have a head in the default space]")
    parser.add_argument("--check", action="store_true", help="score nothing; exit 1 where a row does not agree")
    options = parser.parse_args()
    from tupate_hub import Zoo
    from tupate_hub.storage.csv_rows import append_cells, read_cells

    zoo = Zoo.open(ROOT)
    space = zoo.registry.default_space
    entries = {entry.task: entry for entry in zoo.registry.in_space(space) if entry.head}
    rows = read_cells(ROWS, COLUMNS, "scores of pulled folders", dict)
    if options.check:
        wrong = apart(rows, entries)
        print("\n".join(wrong) or f"{len(rows)} rows agree, {len(entries) - len(rows)} are missing", file=sys.stderr)
        return 1 if wrong else 0
    current = {entry.head["sha256"] for entry in entries.values()}
    done = {row["head_sha256"] for row in rows} & current
    if any(row["head_sha256"] not in current for row in rows):
        ROWS.unlink()
        append_cells(ROWS, COLUMNS, [[row[name] for name in COLUMNS] for row in rows if row["head_sha256"] in current])
    missing = [task for task in options.tasks or entries if entries[task].head["sha256"] not in done]
    for number, task in enumerate(missing, 1):
        examples, pulled = score_pulled(zoo, task, space, options.data)
        recorded = entries[task].head["scores"]["primary"]
        cells = [task, entries[task].head["sha256"], str(examples), f"{recorded:.4f}", f"{pulled:.4f}"]
        append_cells(ROWS, COLUMNS, [cells])
        print(f"[{number}/{len(missing)}] {task}: {pulled:.4f}, recorded {recorded:.4f}", file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
