"""Labels from a trained network, and a training that uses them, through the command line."""

import numpy as np
import pytest
import yaml

from wiry.cli import run
from wiry.core.run import Run, read_metrics
from wiry.core.tensors import load_tensors

MODEL = {"name": "mlp", "widths": [16]}
DIGITS = {"name": "digits", "num_train": 200}


def write(folder, name, data):
    path = folder / f"{name}.yaml"
    stages = [{"name": "dense", "epochs": 1, "batch_size": 50}]
    path.write_text(yaml.safe_dump({"name": name, "data": data, "model": MODEL, "stages": stages}))
    return str(path)


@pytest.fixture
def labeller(tmp_path):
    recipe = write(tmp_path, "labeller", DIGITS)
    assert run(["train", recipe, "--out", str(tmp_path / "runs"), "--workers", "0"]) == 0
    (root,) = (tmp_path / "runs").glob("labeller-*")
    return root


def test_a_network_labels_images_and_another_trains_on_them(tmp_path, labeller):
    images = np.random.default_rng(0).integers(0, 255, (60, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", x=images)
    out = tmp_path / "guessed.safetensors"
    assert (
        run(["pseudo-label", str(labeller), str(tmp_path / "images.npz"), "--out", str(out)]) == 0
    )
    guessed = load_tensors(out)
    assert guessed["x"].shape == (60, 1, 8, 8) and guessed["y"].shape == (60,)
    data = {"name": "pseudo-labelled", "labelled": DIGITS, "file": str(out)}
    recipe = write(tmp_path, "student", data)
    assert run(["train", recipe, "--out", str(tmp_path / "runs"), "--workers", "0"]) == 0
    (root,) = (tmp_path / "runs").glob("student-*")
    student = Run.open(root)
    (row,) = read_metrics(student.stage_dir("dense") / "metrics.jsonl")
    assert row["step"] == 200 // 25  # half of each batch of 50 is labelled


def test_mistakes_are_one_line(tmp_path, labeller, capsys):
    target, images = str(labeller), str(tmp_path / "none.npz")
    assert run(["pseudo-label", target, images, "--out", str(tmp_path / "a.pickle")]) == 2
    assert "must end in .safetensors" in capsys.readouterr().err
    assert run(["pseudo-label", target, images, "--out", str(tmp_path / "a.safetensors")]) == 2
    assert "none.npz does not exist" in capsys.readouterr().err
