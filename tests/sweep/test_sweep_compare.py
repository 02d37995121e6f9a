"""The comparison on a network that trains in a moment: what it counts, ranks, resumes, refuses."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from wiry.core.errors import Diverged, UserError
from wiry.core.files import read_json
from wiry.core.mask import prunable
from wiry.core.registry import registry
from wiry.core.run import Run
from wiry.evaluation.attacked import attack_images
from wiry.evaluation.training_cost import flops_per_image, layer_shares, mean_density
from wiry.models.base import build_model
from wiry.sweep import compare as compare_room
from wiry.sweep.compare import Comparison
from wiry.sweep.compare_entries import chains
from wiry.sweep.compare_outcome import mean_ranks, paired_difference
from wiry.sweep.compare_settings import compare_settings, density_path
from wiry.sweep.pool import Pool

HOUSE = Path(__file__).parents[2]
TINY = [
    "data={name: digits, num_train: 256, num_validation: 20, num_test: 100}",
    "model={name: mlp, widths: [16]}",
    "stages.0.epochs=8",
    "stages.0.objective.attack.steps=1",
]
JUDGE = [
    {"name": "fgsm", "eps": 0.15},
    {"name": "pgd", "eps": 0.15, "steps": 3},
    {"name": "square", "eps": 0.15, "num_queries": 5},
]
ALONE = """
import pathlib, sys, torch
from tests.sweep.test_sweep_compare import Comparison, Pool, settings
torch.set_num_threads(1)
Comparison(settings("one-shot", "lottery", "rigl"), pathlib.Path(sys.argv[1]), Pool(0)).run()
"""


def settings(*methods, **changes):
    fields = {"sparsities": (0.5, 0.8), "seeds": (0, 1), "epochs": None, "sparse_epochs": None}
    fields |= {"data": None, "model": None, "eps": None, "norm": None, "overrides": TINY}
    made = compare_settings(None, methods=methods, **(fields | changes))
    judge = tuple(registry("attack").normalize(spec) for spec in JUDGE)
    return dataclasses.replace(made, judge=judge)


def outcome(folder):
    (path,) = folder.glob("compare-*/compare.json")
    return read_json(path)


def without_seconds(node):
    if isinstance(node, dict):
        return {k: without_seconds(v) for k, v in node.items() if k != "seconds"}
    return [without_seconds(v) for v in node] if isinstance(node, list) else node


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished comparison: its folder and outcome."""
    out = tmp_path_factory.mktemp("finished")
    result = Comparison(settings("one-shot", "lottery", "rigl"), out, Pool(0)).run()
    return out, result


def test_every_method_sparsity_and_seed_has_a_row_and_the_file_says_the_same(finished):
    out, result = finished
    assert outcome(out) == result and result["finished"]
    keys = [(row["method"], row["sparsity"], row["seed"]) for row in result["rows"]]
    asked = [(m, s, k) for m in ("one-shot", "lottery", "rigl") for s in (0.5, 0.8) for k in (0, 1)]
    assert keys == [("dense", 0.0, 0), ("dense", 0.0, 1), *asked]
    for row in result["rows"]:
        assert row["status"] == "done"
        assert row["density"] == pytest.approx(1 - row["sparsity"], abs=1e-3)
        assert (Run.open(out / result_root(out) / row["run"])).stages[-1].name == row["stage"]


def result_root(out):
    return next(out.glob("compare-*")).name


def test_equal_stages_are_trained_once(finished):
    out, result = finished
    logs = {}
    for row in result["rows"]:
        logs[row["run"]] = (out / result_root(out) / row["run"] / "log.txt").read_text()
    trained = [line.split(" ", 1)[1] for log in logs.values() for line in log.splitlines()]
    levels = [line for line in trained if ": training from batch 0" in line]
    # dense, 0.5 and 0.25 and 0.2 of lottery, two one-shots, two rigls; for two seeds
    assert len(levels) == 2 * (1 + 3 + 2 + 2)


def test_costs_follow_from_stages_and_masks(finished):
    _, result = finished
    cells = {(c["method"], c["sparsity"]): c for c in result["cells"]}
    dense = cells["dense", 0.0]["flops_dense"]
    assert cells["dense", 0.0]["flops_sparse"] == dense
    assert cells["one-shot", 0.5]["flops_dense"] == 2 * dense
    assert cells["lottery", 0.8]["flops_dense"] == 4 * dense  # dense, 0.5, 0.25, 0.2
    assert dense < cells["one-shot", 0.8]["flops_sparse"] < cells["one-shot", 0.5]["flops_sparse"]
    assert cells["rigl", 0.8]["flops_sparse"] < dense


def test_a_step_of_a_linear_model_costs_what_its_matrix_products_cost():
    model = build_model(
        {"name": "mlp", "widths": []}, input_shape=(1, 8, 8), num_classes=10, seed=0
    )
    x, y = torch.rand(6, 1, 8, 8), torch.arange(6)
    product = 2 * 64 * 10
    natural = registry("objective").build("natural")
    assert flops_per_image(model, natural, x, y) == 2 * product  # forward, weight gradient
    spec = {"name": "adversarial", "attack": {"name": "pgd", "eps": 0.1, "steps": 3}}
    attacked = registry("objective").build(spec)
    assert flops_per_image(model, attacked, x, y) == (2 + 3 * 2) * product  # 3 x forward, input
    assert all(p.grad is None for p in model.parameters()) and model.training


def test_layer_shares_and_the_density_over_a_stage():
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 3, bias=False), nn.Linear(3, 2, bias=False))
    names = list(prunable(model))
    shares = layer_shares(model, (1, 2, 3))
    assert [shares[n] for n in names] == [0.75, 0.25]
    rows = [
        {"step": 1, "layer_density": {names[0]: 1.0, names[1]: 1.0}},
        {"step": 4, "layer_density": {names[0]: 0.0, names[1]: 0.4}},
    ]
    assert mean_density(rows, shares) == pytest.approx((1 * 1.0 + 3 * 0.1) / 4)
    assert mean_density([], shares) == 1.0


def test_a_paired_difference_of_equal_gaps_has_no_width_from_seeds():
    first = np.array([[1, 1, 1, 0], [1, 1, 1, 0]], dtype=bool)
    second = np.array([[0, 1, 1, 0], [0, 1, 1, 0]], dtype=bool)
    mean, low, high = paired_difference(first, second)
    assert mean == 0.25
    by_image = 1.959964 * 0.5 / 2  # deviation of (1, 0, 0, 0) is 0.5, of four images
    assert (low, high) == (pytest.approx(0.25 - by_image), pytest.approx(0.25 + by_image))


def test_ranks_are_shared_by_equals_and_the_last_are_for_those_that_failed():
    def rows(*robust):
        done = {"status": "done", "prunable": 100, "density": 0.5, "sparsity": 0.5}
        done |= {"one_class": False}
        return [
            done | {"robust_accuracy": r} if r is not None else {"status": "refused"}
            for r in robust
        ]

    asked = dataclasses.replace(settings("one-shot", "lottery", "rigl", "set"), sparsities=(0.5,))
    grid = {("one-shot", 0.5): rows(0.4, 0.6), ("lottery", 0.5): rows(0.4, 0.5)}
    grid |= {("rigl", 0.5): rows(0.1, 0.1), ("set", 0.5): rows(None, None)}
    ranks = mean_ranks(grid, asked)
    assert ranks == {"one-shot": 1.25, "lottery": 1.75, "rigl": 3.0, "set": 4.0}
    grid["rigl", 0.5][0]["density"] = 0.6  # more weights than asked for: not ranked
    assert mean_ranks(grid, asked)["rigl"] == 3.5 == mean_ranks(grid, asked)["set"]
    grid["lottery", 0.5][1]["one_class"] = True  # as good as no network
    assert mean_ranks(grid, asked) == {"one-shot": 1.0, "lottery": 3.0, "rigl": 3.0, "set": 3.0}


def test_what_fails_is_a_row_with_its_reason_and_the_rest_goes_on(tmp_path, monkeypatch):
    errors = {
        "set": Diverged("the loss is nan"),
        "rigl": UserError("cannot"),
        "lottery": KeyError("x"),
    }
    real = Pool.run

    def sometimes(pool, trial):
        for method, error in errors.items():
            if trial.recipe["name"].startswith(method):
                raise error
        return real(pool, trial)

    monkeypatch.setattr(Pool, "run", sometimes)
    asked = settings("set", "rigl", "lottery", "one-shot")
    result = Comparison(asked, tmp_path, Pool(0)).run()
    found = {row["method"]: (row["status"], row["reason"]) for row in result["rows"]}
    assert found["set"] == ("diverged", "the loss is nan")
    assert found["rigl"] == ("refused", "cannot")
    assert found["lottery"] == ("error", "KeyError: 'x' (see errors.txt)")
    assert found["one-shot"] == ("done", "")
    assert not result["finished"]  # a mistake of the code is tried again
    assert [c["winner"] for c in result["columns"]] == ["one-shot", "one-shot"]
    errors.clear()
    result = Comparison(asked, tmp_path, Pool(0)).run()
    assert result["finished"] and result["rows"][-3]["status"] == "done"
    statuses = {row["method"]: row["status"] for row in result["rows"]}
    assert statuses["lottery"] == "done" and statuses["rigl"] == "refused"


def test_a_deleted_run_is_made_again(finished, tmp_path):
    out, before = finished
    shutil.copytree(out, tmp_path, dirs_exist_ok=True)
    root = next(tmp_path.glob("compare-*"))
    shutil.rmtree(root / before["rows"][-1]["run"])
    result = Comparison(settings("one-shot", "lottery", "rigl"), tmp_path, Pool(0)).run()
    assert without_seconds(result) == without_seconds(before)


def test_killed_in_the_middle_and_run_again_equals_the_uninterrupted(tmp_path, finished):
    _, before = finished
    command = [sys.executable, "-c", ALONE, str(tmp_path)]
    process = subprocess.Popen(command, cwd=HOUSE, start_new_session=True)
    limit = time.monotonic() + 120
    while not any(len(read_json(p)["rows"]) > 4 for p in tmp_path.glob("compare-*/compare.json")):
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not outcome(tmp_path)["finished"]
    result = Comparison(settings("one-shot", "lottery", "rigl"), tmp_path, Pool(0)).run()
    assert without_seconds(result) == without_seconds(before)


def test_entries_that_share_an_untrained_stage_are_in_one_chain(tmp_path):
    made = Comparison(settings("lottery", "lottery-shuffled", "one-shot"), tmp_path, Pool(0))
    entries = made._entries()
    dense = (
        made._entry("dense", 0.0, 0, []).trial.run(),
        made._entry("dense", 0.0, 1, []).trial.run(),
    )
    found = chains(entries, {r.stage_identity(r.stages[0]) for r in dense})
    lengths = sorted(len(chain) for chain in found)
    assert lengths == [1, 1, 1, 1, 4, 4] and sum(lengths) == len(entries)
    for chain in found:
        assert len({entry.seed for entry in chain}) == 1


@pytest.mark.parametrize(("sparsity", "path"), [(0.9, [0.5, 0.25, 0.125, 0.1]), (0.3, [0.7])])
def test_iterative_methods_halve_down_to_the_target(sparsity, path):
    assert density_path(sparsity) == path


def test_all_means_every_registered_method():
    from wiry.sparsify.plan import method_names

    assert settings("all").methods == tuple(method_names())


def test_the_preset_is_used_only_where_nothing_else_is_asked_for():
    assert settings("one-shot", overrides=[]).recipe.model["name"] == "mlp"
    assert settings("one-shot", overrides=[], data="mnist").recipe.model["name"] == "lenet5"
    assert settings("one-shot", overrides=[], epochs=7).dense_epochs == 7
    assert json.loads(json.dumps(settings("one-shot").identity())) != settings("rigl").identity()
    assert compare_room.FINAL == ("done", "refused", "diverged")


def test_a_network_that_is_never_right_can_be_judged():
    model = build_model("mlp", input_shape=(1, 8, 8), num_classes=2, seed=0)
    x = torch.rand(4, 1, 8, 8)
    wrong = 1 - model.eval()(x).argmax(1)
    table = attack_images(model, x, wrong, [registry("attack").build("fgsm")], seed=0)
    assert not table.clean_correct.any() and not table.robust.any()
