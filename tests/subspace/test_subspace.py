"""The subspace's file: what is written is read again, what is hostile is refused; embeddings in, embeddings out."""

import json

import numpy as np
import pytest
from builders import lora, prompt

from tupate_hub.errors import FormatError, SpaceMismatch
from tupate_hub.storage.safetensors import TensorFile, parse_tensorfile
from tupate_hub.subspace.maps import pca, with_tanh
from tupate_hub.subspace.subspace import Form, Subspace, parse_subspace, read_subspace


@pytest.fixture(params=["prompt", "lora"])
def embeddings(request):
    make = prompt if request.param == "prompt" else lora
    return [make(f"task{seed}", seed) for seed in range(6)]


@pytest.fixture
def subspace(embeddings):
    x = np.stack([one.vector() for one in embeddings])
    forms = tuple(Form.of(block) for block in embeddings[0].blocks)
    tasks = tuple(one.task for one in embeddings)
    facts = {"seed": 0, "sources": {"task0": "ab" * 32}, "settings": {"tokens": 4}}
    maps = with_tanh(pca(x, 4), 8)
    return Subspace(embeddings[0].space, maps, forms, tasks, maps.encode(x), ("reconstruction",), facts)


def changed(subspace, tensors=None, **metadata):
    file = parse_tensorfile(subspace.to_bytes(), "a file")
    kept = {name: array for name, array in {**file.tensors, **(tensors or {})}.items() if array is not None}
    fields = {name: value for name, value in {**file.metadata, **metadata}.items() if value is not None}
    return TensorFile(kept, fields).to_bytes()


def test_the_file_holds_it_all(subspace, embeddings, tmp_path):
    path = tmp_path / "subspace.safetensors"
    path.write_bytes(subspace.to_bytes("float32"))
    again = read_subspace(path)
    assert (again.space, again.forms, again.tasks, again.losses) == (
        subspace.space, subspace.forms, subspace.tasks, subspace.losses
    )  # fmt: skip
    assert again.facts == subspace.facts
    np.testing.assert_allclose(again.encode(embeddings), subspace.encode(embeddings), atol=1e-5)
    np.testing.assert_array_equal(again.codes, subspace.codes)


def test_half_precision_is_enough(subspace, embeddings):
    again = parse_subspace(subspace.to_bytes(), "a file")
    np.testing.assert_allclose(again.encode(embeddings), subspace.encode(embeddings), atol=2e-2)
    assert len(subspace.to_bytes()) < len(subspace.to_bytes("float32"))


def test_the_same_subspace_gives_the_same_bytes(subspace):
    assert subspace.to_bytes() == subspace.to_bytes() == parse_subspace(subspace.to_bytes(), "a file").to_bytes()


def test_decoding_gives_an_embedding_of_the_space(subspace, embeddings):
    codes = subspace.encode(embeddings)
    decoded = subspace.decode(codes[2], "again")
    assert decoded.space == embeddings[2].space and decoded.facts["settings"] == {"tokens": 4}
    assert [block.name for block in decoded.blocks] == [block.name for block in embeddings[2].blocks]
    assert [block.scale for block in decoded.blocks] == [block.scale for block in embeddings[2].blocks]
    np.testing.assert_allclose(subspace.flat(decoded), subspace.maps.decode(codes)[2], atol=1e-6)


@pytest.mark.parametrize("codes", [[1.0, 2.0], [1.0, 2.0, 3.0, float("nan")], [[1.0, 2.0, 3.0, 4.0]]])
def test_wrong_coordinates_are_refused(subspace, codes):
    with pytest.raises(FormatError, match="4 coordinates"):
        subspace.decode(codes, "x")


def test_an_embedding_of_another_space_is_refused(subspace):
    other = lora("other", 1) if subspace.space.method == "prompt" else prompt("other", 1)
    with pytest.raises(SpaceMismatch, match="other"):
        subspace.encode([other])


def test_an_embedding_of_other_shapes_is_refused(subspace):
    other = prompt("other", 1, rows=5) if subspace.space.method == "prompt" else lora("other", 1, rank=3)
    with pytest.raises(SpaceMismatch, match="blocks and shapes"):
        subspace.encode([other])


@pytest.mark.parametrize(
    ("tensors", "metadata"),
    [
        ({}, {"schema": "tupate-hub-embedding/1"}),
        ({}, {"forms": None}),
        ({}, {"forms": "[]"}),
        ({}, {"forms": "{"}),
        ({}, {"forms": json.dumps([{"name": "prompt", "shapes": {"rows": [4, 10**12]}, "scale": 1.0}])}),
        ({}, {"forms": json.dumps([{"name": "prompt", "shapes": {"odd": [4, 6]}, "scale": 1.0}])}),
        ({}, {"forms": json.dumps([{"name": "prompt", "shapes": {"rows": [4, -6]}, "scale": 1.0}])}),
        ({}, {"tasks": "[1]"}),
        ({}, {"facts": "3"}),
        ({"encoder.bias": None}, {}),
        ({"codes": None}, {}),
        ({"codes": np.zeros((5, 4), np.float32)}, {}),
        ({"codes": np.full((6, 4), np.inf, np.float32)}, {}),
        ({"extra": np.zeros(3, np.float32)}, {}),
        ({"encoder.bias": np.full(4, np.nan, np.float32)}, {}),
        ({"encoder.bias": np.zeros(5, np.float32)}, {}),
        ({"encoder.bias": np.zeros(4, np.int32)}, {}),
        ({"decoder.0.weight": np.zeros((8, 3), np.float32)}, {}),
        ({"decoder.1.weight": np.zeros((7, 8), np.float32), "decoder.1.bias": np.zeros(7, np.float32)}, {}),
    ],
)
def test_a_hostile_file_is_refused_by_its_name(subspace, tensors, metadata):
    with pytest.raises(FormatError, match="a file"):
        parse_subspace(changed(subspace, tensors, **metadata), "a file")


def test_every_cut_of_a_file_is_refused(subspace):
    data = subspace.to_bytes()
    for end in (0, 7, 50, len(data) // 2, len(data) - 1):
        with pytest.raises(FormatError):
            parse_subspace(data[:end], "a file")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FormatError, match="cannot be read"):
        read_subspace(tmp_path / "none.safetensors")
