"""A resumed run equals an uninterrupted one, whatever the method; damage is refused by name."""

import json
import os
import shutil
import signal
import time

import pytest
from tests.train.tiny import artifacts, tiny_recipe

from wiry.core.errors import UserError
from wiry.core.registry import registry
from wiry.core.run import Run, read_metrics
from wiry.train.stages import Session, load_stage, train

EAGER = Session(checkpoint_seconds=0.0)


class Stop(Exception):
    pass


class StopAfter:
    """An observer that interrupts a training after some batches."""

    def __init__(self, batches):
        self.left = batches

    def __call__(self, training):
        self.left -= 1
        if self.left == 0:
            raise Stop


def interrupted(recipe, out, batches):
    with pytest.raises(Stop):
        train(recipe, out, Session(checkpoint_seconds=0.0, observers=(StopAfter(batches),)))
    return train(recipe, out, EAGER)


@pytest.mark.parametrize("sparsifier", registry("sparsifier").names())
def test_every_sparsifier_resumes_bit_for_bit(sparsifier, tmp_path):
    model = "cnn-small" if sparsifier == "slimming" else None  # it needs batch normalisation
    recipe = tiny_recipe(sparsifier=sparsifier, model=model)
    whole = train(recipe, tmp_path / "whole")
    assert artifacts(interrupted(recipe, tmp_path / "cut", 5)) == artifacts(whole)


@pytest.mark.parametrize("objective", registry("objective").names())
def test_every_objective_resumes_bit_for_bit(objective, tmp_path):
    stage = {"epochs": 2, "objective": objective, "sparsifier": "gradual"}
    stages = [{"name": "teacher", "epochs": 0}, stage | {"name": "dense"}]
    if objective in ("distillation", "pwoa"):
        stages[1]["teacher"] = "teacher"
    recipe = tiny_recipe(stages=stages, model="cnn-small")
    whole = train(recipe, tmp_path / "whole")
    assert artifacts(interrupted(recipe, tmp_path / "cut", 4)) == artifacts(whole)


def test_every_kind_of_start_resumes_bit_for_bit(tmp_path):
    level = {"epochs": 1, "sparsifier": {"name": "prune-rate", "rate": 0.5}}
    stages = [
        {"name": "dense", "epochs": 1},
        level
        | {
            "name": "level",
            "levels": 2,
            "start": {"weights": "dense@2it", "score": "previous", "mask": "previous"},
        },
        level
        | {
            "name": "fresh",
            "start": {"weights": "reinit", "score": "previous", "mask": "previous"},
        },
        {
            "name": "mixed",
            "epochs": 1,
            "start": {"weights": "dense@0it", "mask": "level-2:shuffled"},
        },
        level | {"name": "on", "start": {"weights": "previous", "mask": "previous"}},
    ]
    recipe = tiny_recipe(stages=stages)
    whole = train(recipe, tmp_path / "whole")
    for cut in (1, 4, 7, 11, 15, 17):
        assert artifacts(interrupted(recipe, tmp_path / f"cut{cut}", cut)) == artifacts(whole), cut


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_killing_a_run_at_twenty_random_moments_loses_nothing(tmp_path):
    """Each child trains in its own process and is killed with signal 9, until one gets through."""
    recipe = tiny_recipe(sparsifier="gradual", epochs=6)
    whole = artifacts(train(recipe, tmp_path / "whole"))
    started = time.monotonic()
    train(recipe, tmp_path / "timed", EAGER)
    length = time.monotonic() - started
    kills = 0
    for attempt in range(400):
        child = os.fork()
        if child == 0:
            train(recipe, tmp_path / "killed", EAGER)
            os._exit(0)
        time.sleep(length * (0.02 + 0.1 * ((attempt * 0.618) % 1)))
        if kills < 20:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        kills += os.WIFSIGNALED(status)
        if os.WIFEXITED(status):
            if kills >= 20:
                break
            # it got through before twenty kills: start a new run in the same place
            assert artifacts(Run.of(recipe, tmp_path / "killed")) == whole
            (tmp_path / "killed").rename(tmp_path / f"killed{attempt}")
    assert kills >= 20
    assert artifacts(Run.of(recipe, tmp_path / "killed")) == whole


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path):
    recipe = tiny_recipe(epochs=2)
    whole = artifacts(train(recipe, tmp_path / "whole"))
    with pytest.raises(Stop):
        train(recipe, tmp_path / "cut", Session(checkpoint_seconds=0.0, observers=(StopAfter(5),)))
    newest = max((tmp_path / "cut").rglob("resume-*.pt"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    lines = []
    run = train(recipe, tmp_path / "cut", Session(announce=lines.append))
    assert any(newest.name in line and "corrupted" in line for line in lines)
    assert artifacts(run) == whole


def test_a_foreign_checkpoint_is_not_used(tmp_path):
    recipe, other = tiny_recipe(seed=0), tiny_recipe(seed=1)
    for r, place in ((recipe, "a"), (other, "b")):
        with pytest.raises(Stop):
            train(r, tmp_path / place, Session(checkpoint_seconds=0.0, observers=(StopAfter(3),)))
    mine, theirs = ((next((tmp_path / p).rglob("resume-*.pt"))) for p in ("a", "b"))
    for file in mine.parent.glob("resume-*.pt"):
        file.unlink()
    (mine.parent / theirs.name).write_bytes(theirs.read_bytes())
    lines = []
    run = train(recipe, tmp_path / "a", Session(announce=lines.append))
    assert any("another stage" in line for line in lines)
    assert artifacts(run) == artifacts(train(recipe, tmp_path / "whole"))


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone"])
def test_a_damaged_artifact_is_refused_by_name(damage, tmp_path):
    run = train(tiny_recipe(), tmp_path)
    path = run.stage_dir("dense") / "weights.safetensors"
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        flipped = content[:-1] + bytes([content[-1] ^ 1])
        path.write_bytes({"flip": flipped, "cut": content[:100], "empty": b""}[damage])
    with pytest.raises(UserError, match=r"weights\.safetensors"):
        load_stage(run, "dense")


def test_a_finished_run_is_not_trained_again_and_an_equal_stage_is_linked(tmp_path):
    stages = [{"name": "dense", "epochs": 1}]
    sparse = {
        "name": "sparse",
        "epochs": 1,
        "start": {"weights": "dense"},
        "sparsifier": {"name": "magnitude", "sparsity": 0.5},
    }
    first = train(tiny_recipe(stages=stages), tmp_path)
    before = (first.stage_dir("dense") / "DONE").stat().st_mtime_ns
    train(tiny_recipe(stages=stages), tmp_path)
    assert (first.stage_dir("dense") / "DONE").stat().st_mtime_ns == before
    second = train(tiny_recipe(stages=[*stages, sparse]), tmp_path)
    assert "linked" in (second.root / "log.txt").read_text()
    alone = train(tiny_recipe(stages=[*stages, sparse]), tmp_path / "alone")
    assert artifacts(second) == artifacts(alone)


def test_a_stage_is_linked_from_a_linked_one_when_the_first_run_is_gone(tmp_path):
    dense = {"name": "dense", "epochs": 1}
    first = train(tiny_recipe(stages=[dense]), tmp_path)
    train(tiny_recipe(stages=[dense, {"name": "second", "epochs": 0}]), tmp_path)
    shutil.rmtree(first.root)
    third = train(tiny_recipe(stages=[dense, {"name": "third", "epochs": 0}]), tmp_path)
    assert "dense: linked" in (third.root / "log.txt").read_text()


def test_two_processes_cannot_hold_one_run(tmp_path):
    run = Run.of(tiny_recipe(), tmp_path)
    with run.lock(), pytest.raises(UserError, match="in use"):
        train(tiny_recipe(), tmp_path)


def test_metrics_have_one_row_a_measurement_after_a_resume(tmp_path):
    run = interrupted(tiny_recipe(epochs=4), tmp_path, 6)
    rows = read_metrics(run.stage_dir("dense") / "metrics.jsonl")
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert json.loads((run.stage_dir("dense") / "DONE").read_text())["steps"] == rows[-1]["step"]
