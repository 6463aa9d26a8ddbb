"""Many tasks in one batch: each is tuned as it would be alone, by the ordinary run and by this one."""

import dataclasses

import numpy as np
import pytest
import torch
from toys import REGIME

from tupate_hub.errors import FormatError, WorkFailed
from tupate_hub.training.batches import grouped_batches
from tupate_hub.training.methods import get_method
from tupate_hub.training.regime import Setup
from tupate_hub.training.run import Run
from tupate_hub.training.subspace.encoder import FrozenEncoder
from tupate_hub.training.subspace.manytasks import ManyTasks
from tupate_hub.training.subspace.start import start_of
from tupate_hub.training.subspace.tuning import accuracies, clip_rows, tune_rows

CPU = torch.device("cpu")
SHORT = dataclasses.replace(REGIME, steps=8, evaluations=2, batch_size=8)


@pytest.fixture
def tasks(load):
    whole = load("toy_classes")
    turned = dataclasses.replace(
        whole,
        name="turned",
        label_names=whole.label_names[::-1],
        train=whole.train[50:],
    )
    return [whole, turned, load("toy_choices")]


@pytest.fixture
def many(tokenizer, tasks):
    return ManyTasks.of(tokenizer, tasks, max_length=32)


def rows_of(start, tasks):
    return torch.from_numpy(np.tile(start.vector(), (len(tasks), 1)))


def ordinary(base, data, method):
    """The ordinary run's parameters after each of its steps but the last evaluation, and the batches that it made."""
    run = Run(base, data, get_method(method), SHORT, Setup(head="labels"), None)
    at = {id(feature): number for number, feature in enumerate(run.train_features)}
    batches = grouped_batches(run.train_features, SHORT.batch_size, SHORT.seed)
    numbers = [[at[id(feature)] for feature in next(batches)] for _ in range(SHORT.steps)]
    run.model.train()
    list(run.advance(lambda steps, total: steps, lambda step, loss, held_out: None))
    return run.snapshot(), numbers


@pytest.mark.parametrize("method", ["prompt", "lora"])
def test_a_batch_of_many_tasks_tunes_each_as_the_ordinary_run_does_alone(base, tasks, many, method):
    from tupate_hub.training.record import read_tensors

    start = start_of(base, method, "toy/bert")
    encoder = FrozenEncoder(base, start.blocks, CPU)
    runs = [ordinary(base, data, method) for data in tasks[:2]]
    offset = [0, len(tasks[0].train)]
    batches = [
        np.concatenate([np.array(numbers[step]) + begin for (_, numbers), begin in zip(runs, offset, strict=True)])
        for step in range(SHORT.steps)
    ]
    both = many.select([0, 1])
    regime = dataclasses.replace(SHORT, evaluations=1)
    tuned = tune_rows(encoder, both, rows_of(start, both.tasks), regime, batches=batches)
    for row, (snapshot, _) in zip(tuned.rows.numpy(), runs, strict=True):
        blocks = read_tensors(snapshot.tensors, snapshot.layout).blocks
        alone = np.concatenate([array.ravel() for block in blocks for array in block.parts.values()])
        assert np.abs(alone - start.vector()).max() > 0.01
        np.testing.assert_allclose(row, alone, atol=2e-3)  # the ordinary run's are rounded to float16


def test_tasks_do_not_feel_one_another(base, many):
    start = start_of(base, "prompt", "toy/bert")
    encoder = FrozenEncoder(base, start.blocks, CPU)
    together = tune_rows(encoder, many, rows_of(start, many.tasks), SHORT, batches=list(many.batches("train", 8, 4, 0)))
    size = 4
    for number in range(len(many.tasks)):
        one = many.select([number])
        shift = int(np.flatnonzero(many.parts["train"].texts.task == number)[0])
        batches = [rows[number * size : (number + 1) * size] - shift for rows in many.batches("train", 8, 4, 0)]
        alone = tune_rows(encoder, one, rows_of(start, one.tasks), SHORT, batches=batches)
        np.testing.assert_allclose(together.rows[number], alone.rows[0], atol=2e-4)


def test_tuning_learns_what_the_examples_say(base, many):
    start = start_of(base, "prompt", "toy/bert")
    encoder = FrozenEncoder(base, start.blocks, CPU)
    two = many.select([0, 1])
    before = accuracies(encoder, two, "validation", rows_of(start, two.tasks))
    tuned = tune_rows(encoder, two, rows_of(start, two.tasks), dataclasses.replace(REGIME, steps=60, batch_size=8))
    after = accuracies(encoder, two, "validation", tuned.rows)
    assert (after > before + 0.15).all()


def test_padding_and_the_company_of_other_texts_change_nothing(base, many):
    start = start_of(base, "prompt", "toy/bert")
    encoder = FrozenEncoder(base, start.blocks, CPU)
    texts, flat = many.parts["train"].texts, rows_of(start, many.tasks)
    order = np.random.default_rng(0).permutation(len(texts.lengths))[:100]
    together = encoder.vectors(texts, order, flat)
    alone = torch.cat([encoder.vectors(texts, order[at : at + 1], flat) for at in range(5)])
    torch.testing.assert_close(together[:5], alone, atol=1e-5, rtol=0)


def test_batches_go_through_every_task_in_passes_of_their_own(many):
    drawn = np.stack(list(many.batches("train", 150, 4, seed=3)))
    task = many.parts["train"].texts.task
    for number in range(len(many.tasks)):
        own = np.flatnonzero(task == number)
        rows = drawn[:, number * 4 : (number + 1) * 4].ravel()
        assert set(rows) <= set(own)
        assert sorted(rows[: len(own)]) == sorted(own)
    assert not np.array_equal(drawn, np.stack(list(many.batches("train", 150, 4, seed=4))))


def test_a_choice_of_tasks_keeps_what_is_theirs(many):
    some = many.select([2, 0])
    assert some.tasks == (many.tasks[2], many.tasks[0])
    for part, whole in many.parts.items():
        for new, old in enumerate((2, 0)):
            at, was = some.parts[part].texts.task == new, whole.texts.task == old
            assert np.array_equal(some.parts[part].labels[at], whole.labels[was])
            for mine, theirs in zip(some.parts[part].names[at], whole.names[was], strict=True):
                assert np.array_equal(some.names.ids[mine[mine >= 0]], many.names.ids[theirs[theirs >= 0]])


def test_tokenised_tasks_survive_their_file(many):
    again = ManyTasks.parse(many.to_bytes(), "a file")
    assert again.tasks == many.tasks and set(again.parts) == set(many.parts)
    assert np.array_equal(again.parts["train"].names, many.parts["train"].names)
    assert torch.equal(again.names.ids.long(), many.names.ids.long())


def test_a_foreign_file_is_refused():
    with pytest.raises(FormatError):
        ManyTasks.parse(b"nonsense", "a file")


def test_gradients_are_clipped_row_by_row():
    rows = torch.zeros(2, 3, requires_grad=True)
    rows.grad = torch.tensor([[3.0, 0.0, 4.0], [0.0, 0.1, 0.0]])
    clip_rows(rows)
    torch.testing.assert_close(rows.grad, torch.tensor([[0.6, 0.0, 0.8], [0.0, 0.1, 0.0]]))


def test_numbers_that_diverge_are_told_by_the_name_of_their_task(base, many):
    start = start_of(base, "prompt", "toy/bert")
    encoder = FrozenEncoder(base, start.blocks, CPU)
    rows = rows_of(start, many.tasks)
    rows[1, 5] = float("nan")
    with pytest.raises(WorkFailed, match="turned"):
        tune_rows(encoder, many, rows, SHORT)


def test_tags_and_spans_have_no_classes_to_score(load, tokenizer):
    with pytest.raises(FormatError, match="toy_tags"):
        ManyTasks.of(tokenizer, [load("toy_tags")])


def test_other_methods_are_refused(base):
    with pytest.raises(FormatError, match="prompts and with LoRA"):
        FrozenEncoder(base, start_of(base, "bitfit", "toy/bert").blocks, CPU)


def test_a_model_of_another_shape_is_refused(base, tmp_path):
    from tiny_models import tiny

    tiny("distilbert").base_model.save_pretrained(str(tmp_path))
    with pytest.raises(FormatError, match="BERT's shape"):
        FrozenEncoder(tmp_path, start_of(base, "prompt", "toy/bert").blocks, CPU)
