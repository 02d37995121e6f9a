"""A killed evaluation goes on where it was, and says what an uninterrupted one says."""

import multiprocessing
import os
import random
import signal
import time

import numpy as np
import pytest
import torch
from torch import nn

from wiry.attacks.apgd import APGD
from wiry.attacks.fab import FAB
from wiry.attacks.pgd import PGD
from wiry.attacks.square import Square
from wiry.core.mask import Mask
from wiry.core.rng import global_seed
from wiry.evaluation.files import read_arrays
from wiry.evaluation.journal import Journal, Outcome
from wiry.evaluation.record import run_evaluation

EPS = 0.1
NUM_KILLS = 20
ATTACKS = (
    PGD(EPS, steps=3),
    APGD(EPS, steps=10),
    APGD(EPS, steps=10, loss="targeted-dlr", num_targets=3),
    FAB(EPS, steps=10, num_targets=3),
    Square(EPS, num_queries=100),
)


def case():
    with global_seed(0, "resume"):
        x = torch.rand(48, 1, 6, 6)
        model = nn.Sequential(nn.Flatten(), nn.Linear(36, 24), nn.ReLU(), nn.Linear(24, 4)).eval()
    with torch.no_grad():
        y = model(x).argmax(1)
    return model, x, y


def judge(folder, **changes):
    model, x, y = case()
    options = {"cascade": True, "batch_size": 4, "check": False, **changes}
    return run_evaluation(
        model,
        Mask({}),
        x,
        y,
        ATTACKS,
        split="test",
        class_names=tuple("abcd"),
        input_shape=(1, 6, 6),
        seed=0,
        folder=folder,
        name="test",
        **options,
    )


def judge_slowly(folder):
    torch.set_num_threads(1)
    judge(folder, progress=lambda status: time.sleep(0.003))


def untimed(record):
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in record["attacks"]]
    kept = {k: v for k, v in record.items() if k not in ("seconds", "table_sha256")}
    return kept | {"attacks": rows}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork to kill cheaply")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_evaluation_killed_twenty_times_ends_as_an_uninterrupted_one(tmp_path):
    chance = random.Random(0)
    context = multiprocessing.get_context("fork")
    partial = tmp_path / "killed" / "test.partial"
    counts = []
    for _ in range(NUM_KILLS):
        before = len(list(partial.glob("*.npz")))
        child = context.Process(target=judge_slowly, args=(tmp_path / "killed",))
        child.start()
        limit = time.monotonic() + 30
        while len(list(partial.glob("*.npz"))) <= before and child.is_alive():
            assert time.monotonic() < limit, "no progress"
            time.sleep(0.001)
        time.sleep(chance.random() * 0.004)
        assert child.is_alive(), "it ended before it could be killed; make it longer"
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        counts.append(len(list(partial.glob("*.npz"))))
    assert counts == sorted(set(counts)), "each life adds to what is there"
    assert not (tmp_path / "killed" / "test.json").exists()
    record = judge(tmp_path / "killed")
    assert untimed(record) == untimed(judge(tmp_path / "whole"))
    assert 0 < record["robust_accuracy"] < 1
    assert not partial.exists()
    killed, whole = (read_arrays(tmp_path / f / "test.npz") for f in ("killed", "whole"))
    assert killed.keys() == whole.keys()
    assert all(np.array_equal(killed[key], whole[key]) for key in whole)


def test_the_result_does_not_depend_on_the_batch_size(tmp_path):
    records = [judge(tmp_path / str(size), batch_size=size) for size in (1, 7, "auto")]
    first, *others = [untimed(r) for r in records]
    assert all(other == first for other in others)


def test_a_journal_of_another_question_is_not_believed(tmp_path):
    folder = tmp_path / "partial"
    journal = Journal(folder, {"seed": 0})
    index = torch.tensor([3, 5])
    outcome = Outcome(
        index,
        torch.tensor([True, False]),
        torch.tensor([-1.0, 2.0]),
        torch.rand(1, 1, 2, 2),
        torch.tensor([1]),
        0.5,
    )
    journal.write("000-00", outcome)
    (read,) = Journal(folder, {"seed": 0}).read("000-00")
    assert torch.equal(read.index, index) and torch.equal(read.fooled, outcome.fooled)
    assert torch.equal(read.adversarial, outcome.adversarial) and read.seconds == 0.5
    assert list(Journal(folder, {"seed": 0}).read("000-01")) == []
    assert list(Journal(folder, {"seed": 1}).read("000-00")) == []


def test_a_damaged_file_of_a_journal_is_done_again(tmp_path):
    journal = Journal(tmp_path / "partial", {})
    (tmp_path / "partial" / "000-00-000000000.npz").write_bytes(b"PK\x03\x04 cut short")
    assert list(journal.read("000-00")) == []
    assert not list((tmp_path / "partial").glob("*.npz"))
