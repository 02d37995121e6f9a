"""`wiry export` from the command line: what it writes, what it refuses, that it can be judged."""

import json

import numpy as np
import pytest
from tests.cli.commands import error_line, only_json

import wiry
from wiry.cli import run


@pytest.fixture(scope="module")
def network(tiny, tmp_path_factory):
    """The tiny run, exported as a .wiry file, and what was printed."""
    _, _, done = tiny
    path = tmp_path_factory.mktemp("export") / "net.wiry"
    assert run(["export", str(done.root), "--output", str(path), "--num-samples", "20"]) == 0
    return path


def test_a_run_becomes_a_file_that_knows_its_evaluation(network, tiny):
    card = json.loads(network.with_name("net.wiry.card.json").read_text())
    assert card["verification"]["num_samples"] == 20
    assert card["verification"]["robust_after"] == card["verification"]["robust_before"]
    assert card["evaluation"]["split"] == "test"
    assert card["class_names"] == [str(digit) for digit in range(10)]
    images = np.zeros((3, 1, 8, 8), np.float32)
    assert wiry.Runtime(network)(images).shape == (3, 10)


def test_a_wiry_file_is_judged_on_the_data_of_its_recipe(network, tmp_path, capsys):
    capsys.readouterr()
    arguments = ["evaluate", str(network), "--attack", "fgsm", "--num-samples", "10", "--no-page"]
    assert run([*arguments, "--eps", "0.1", "--out", str(tmp_path), "--json"]) == 0
    assert only_json(capsys)["num_samples"] == 10


def test_a_wiry_file_becomes_a_program(network, tmp_path, capsys):
    capsys.readouterr()
    output = tmp_path / "net.pt2"
    arguments = ["export", str(network), "--to", "torch-export", "--output", str(output)]
    assert run([*arguments, "--shrink", "--json"]) == 0
    card = only_json(capsys)
    assert card["file"] == str(output) and output.is_file()
    assert card["shrunk"]["parameters_after"] <= card["shrunk"]["parameters_before"]


def test_without_images_nothing_is_claimed(network, tmp_path, capsys):
    capsys.readouterr()
    output = tmp_path / "net.safetensors"
    arguments = ["export", str(network), "--to", "safetensors", "--output", str(output)]
    assert run([*arguments, "--no-verify", "--json"]) == 0
    assert only_json(capsys)["verification"] is None
    assert "Not checked" in output.with_name("net.safetensors.card.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "does not exist"),
        ([], "give one network"),
        (["NET"], "is there already"),
        (["NET", "--to", "onxx"], "closest: 'onnx'"),
        (["NET", "--to", "safetensors", "--dtype", "int8"], "no --dtype 'int8'"),
        (["NET", "--overwrite", "--stage", "sparse"], "--stage is for run directories"),
        (["NET", "--overwrite", "--attack", "fgms"], "closest: 'fgsm'"),
        (["NET", "--output", "net.xyz"], "ends in .wiry"),
    ],
)
def test_a_mistake_is_one_line(arguments, words, network, monkeypatch, capsys):
    monkeypatch.chdir(network.parent)
    before = network.read_bytes()
    given = [str(network) if word == "NET" else word for word in arguments]
    assert run(["export", *given]) == 2
    assert words in error_line(capsys)
    assert network.read_bytes() == before
