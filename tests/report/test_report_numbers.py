"""How numbers read, what the series compute, and the pictures' bytes."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_sample import build_run, lottery_stages
from report_sample_search import build_search

from wiry.report.collect import collect_run
from wiry.report.collect_search import collect_search
from wiry.report.images import png
from wiry.report.records import StageData
from wiry.report.series import (
    choose_levels,
    early_stop,
    group_runs,
    initial_weights,
    kernel_density,
    mean_curve,
    measurements,
)
from wiry.report.words import (
    count,
    duration,
    eps_text,
    norm_text,
    percent,
    percent_interval,
    percent_spread,
    quantity,
)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (percent(0.063), "6.3 %"),
        (percent(1), "100.0 %"),
        (percent(0.00042), "0.042 %"),
        (percent(None), "\N{EN DASH}"),
        (percent_interval((0.503, 0.523)), "50.3\N{EN DASH}52.3 %"),
        (percent_spread([0.5, 0.52]), "51.0 \N{PLUS-MINUS SIGN} 1.4 %"),
        (percent_spread([0.5]), "50.0 %"),
        (count(12345), "12,345"),
        (quantity(532_400, "FLOP"), "532.4 kFLOP"),
        (quantity(999, "B"), "999 B"),
        (duration(3725), "1 h 2 min"),
        (duration(61), "1 min 1 s"),
        (duration(4.25), "4.2 s"),
        (eps_text(8 / 255), "8/255"),
        (eps_text(0.3), "0.3"),
        (norm_text("linf"), "L\N{INFINITY}"),
    ],
)
def test_numbers_read_as_people_write_them(written, text):
    assert written.replace("\N{NO-BREAK SPACE}", " ") == text


def test_early_stopping_is_the_row_of_least_mean_of_clean_and_robust_loss(tmp_path):
    run = collect_run(build_run(tmp_path / "run", [{"name": "dense", "num_rows": 40}]))
    row = early_stop(run.stages[0])
    rows = run.stages[0].metrics
    losses = [r["validation_loss"] + r["validation_robust_loss"] for r in rows]
    assert row is not None
    assert row["step"] == 391 * (1 + int(np.argmin(losses)))
    assert 0 < row["step"] < 391 * 40


@pytest.mark.parametrize(
    ("robust", "step"),
    [
        ([None, None, None], 1),  # clean alone: 0.2, 0.5, 0.4
        ([2.0, 1.0, 1.3], 2),  # means: 1.1, 0.75, 0.85
        ([None, 1.4, 1.3], 3),  # the first row has no robust loss to compare: -, 0.95, 0.85
    ],
)
def test_early_stopping_takes_the_robust_loss_where_it_was_recorded(robust, step):
    rows = [
        {"step": n, "validation_loss": clean, "validation_robust_loss": attacked}
        for n, clean, attacked in zip((1, 2, 3), (0.2, 0.5, 0.4), robust, strict=True)
    ]
    row = early_stop(StageData("dense", Path("1-dense"), None, rows, []))
    assert row is not None and row["step"] == step


def test_the_levels_shown_are_those_of_the_paper():
    densities = [0.8**level for level in range(21)]
    shown = choose_levels(densities)
    assert [round(100 * densities[i], 1) for i in shown] == [100.0, 51.2, 16.8, 8.6, 3.5, 1.8]
    assert choose_levels([1.0, None, 0.1]) == [0, 2]


def test_the_mean_curve_is_over_seeds_at_common_steps(tmp_path):
    runs = [
        collect_run(build_run(tmp_path / str(s), [{"name": "a", "num_rows": 3 + s}], seed=s))
        for s in range(2)
    ]
    (group,) = group_runs(runs)
    drawn = mean_curve(group.stages("a"), "validation_accuracy")
    assert drawn is not None
    steps, mean, deviation = drawn
    first = [next(r["validation_accuracy"] for r in run.stages[0].metrics) for run in runs]
    assert steps.tolist() == [391, 782, 1173]
    assert mean[0] == pytest.approx(sum(first) / 2)
    assert deviation[0] == pytest.approx(abs(first[0] - first[1]) / math.sqrt(2))


def test_runs_of_different_recipes_with_one_name_are_not_taken_for_seeds(tmp_path):
    one = collect_run(build_run(tmp_path / "same-1", [{"name": "a"}], seed=0))
    two = collect_run(build_run(tmp_path / "same-2", [{"name": "a"}], seed=1))
    other = collect_run(build_run(tmp_path / "same-3", [{"name": "b"}], seed=0))
    groups = group_runs([one, two, other])
    assert [(g.label, len(g.runs)) for g in groups] == [("same-1", 2), ("same-3", 1)]


def test_measurements_have_a_number_per_seed(tmp_path):
    roots = [
        build_run(tmp_path / str(s), [{"name": "a", "robust": 0.5 + s / 10}], seed=s)
        for s in range(3)
    ]
    (found,) = measurements(collect_run(root) for root in roots)
    assert found.robust == [0.5, 0.6, 0.7]
    assert list(found.attacks) == ["PGD(steps=50)", "APGD-CE()"]


def test_a_search_gives_measurements_of_its_tested_rows_only(tmp_path):
    found = measurements([collect_search(build_search(tmp_path / "search", seeds=3))])
    assert [m.group for m in found] == [
        "mnist-mlp: dense",
        "mnist-mlp: hydra",
        "mnist-mlp: lottery",
        "mnist-mlp: gradual-magnitude",
    ]
    assert [len(m.clean) for m in found] == [1, 3, 1, 1]


def test_initial_weights_are_the_surviving_ones(tmp_path):
    run = collect_run(build_run(tmp_path / "run", lottery_stages(3)))
    full, pruned = (initial_weights(run.stages[i])["first.weight"] for i in (0, 3))
    assert full.size == 128
    assert 40 < pruned.size < 90
    assert set(pruned.tolist()) < set(full.tolist())


def test_initial_weights_are_those_the_stage_itself_started_from(tmp_path):
    stages = [{"name": "dense"}, {"name": "redrawn", "initial_seed": 8}]
    run = collect_run(build_run(tmp_path / "run", stages))
    one, other = (initial_weights(s)["first.weight"] for s in run.stages)
    assert one.size == other.size == 128
    assert not set(one.tolist()) & set(other.tolist())
    (run.stages[1].folder / "kept" / "0it.safetensors").unlink()
    assert initial_weights(run.stages[1]) == {}


def test_the_density_estimate_is_that_of_a_normal_sample():
    values = np.random.default_rng(0).normal(0, 1, 100_000)
    grid = np.linspace(-5, 5, 201)
    estimate = kernel_density(values, grid)
    assert estimate.sum() * (grid[1] - grid[0]) == pytest.approx(1, abs=1e-6)
    assert estimate[100] == pytest.approx(1 / math.sqrt(2 * math.pi), abs=0.02)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_has_the_pixels_it_was_given(tmp_path, channels):
    pixels = np.random.default_rng(1).integers(0, 256, (channels, 5, 7)).astype(np.uint8)
    path = tmp_path / "image.png"
    path.write_bytes(png(pixels))
    with Image.open(path) as image:
        read = np.asarray(image).reshape(5, 7, channels)
    assert (read == pixels.transpose(1, 2, 0)).all()
