"""The commands from end to end on recipes that train in a moment, and what they print."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.commands import SEARCH, TINY, only_json, write

from wiry.cli import run
from wiry.core.recipe_file import load_recipe
from wiry.core.registry import kinds, registry


def test_train_writes_a_run_and_prints_json_the_second_time_too(tiny, capsys):
    path, out, made = tiny
    for _ in range(2):
        assert run(["train", str(path), "--out", str(out), "--json"]) == 0
        printed = only_json(capsys)
        assert Path(printed["run"]) == made.root and Path(printed["report"]).is_file()
        assert list(printed["stages"]) == ["dense", "sparse"]
        sparse = printed["stages"]["sparse"]
        assert sparse["num_samples"] == 30 and sparse["split"] == "test"
        assert sparse["cost"]["mask_density"] == pytest.approx(0.5, abs=0.001)
        assert 0 <= sparse["robust_accuracy"] <= sparse["clean_accuracy"] <= 1


def test_train_without_json_prints_a_table_and_the_places(tiny, capsys):
    path, out, made = tiny
    assert run(["train", str(path), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "dense" in printed and "sparse" in printed
    assert str(made.root) in printed and "report.html" in printed


def test_set_makes_another_run(tiny, tmp_path, capsys):
    path, _, made = tiny
    arguments = ["--set", "stages.1.sparsifier.sparsity=3/4", "--set", "seed=1"]
    assert run(["train", str(path), "--out", str(tmp_path), "--json", *arguments]) == 0
    printed = only_json(capsys)
    assert Path(printed["run"]).name != made.root.name
    assert printed["stages"]["sparse"]["cost"]["mask_density"] == pytest.approx(0.25, abs=0.001)


def test_evaluation_measures_a_stage_under_one_attack(tiny, capsys):
    _, _, made = tiny
    arguments = ["evaluate", str(made.root), "--stage", "dense", "--attack", "fgsm", "--json"]
    arguments += ["--eps", "8/255", "--num-samples", "20", "--split", "validation"]
    assert run(arguments) == 0
    printed = only_json(capsys)
    assert printed["eps"] == pytest.approx(8 / 255) and printed["num_samples"] == 20
    assert printed["split"] == "validation" and len(printed["attacks"]) == 1
    assert run([a for a in arguments if a != "--json"]) == 0
    assert "dense" in capsys.readouterr().out


def test_evaluation_takes_eps_from_the_training_and_the_last_stage(tiny, capsys):
    _, _, made = tiny
    write_to = ["evaluate", str(made.root), "--attack", "screen", "--num-samples", "10", "--json"]
    assert run([*write_to, "--stage", "dense"]) == 0
    assert only_json(capsys)["eps"] == 0.1
    assert run(write_to) == 2  # the last stage trains without an attack
    assert "--eps" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--stage", "dens"], "dense"),
        (["--attack", "pgdd", "--eps", "0.1"], "closest: 'pgd'"),
        (["--eps", "8"], "eps"),
        (["--eps", "0.1", "--norm", "l7"], "norm"),
        (["--eps", "0.1", "--split", "train"], "validation"),
        (["--eps", "0.1", "--device", "cuda:99"], "cuda:99"),
    ],
)
def test_evaluation_refuses_in_one_line(arguments, expected, tiny, capsys):
    _, _, made = tiny
    assert run(["evaluate", str(made.root), *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("wiry: error: ") and len(err.splitlines()) == 1 and expected in err


def test_report_writes_page_figures_and_tables(tiny, tmp_path, capsys):
    _, _, made = tiny
    arguments = ["--figures", str(tmp_path / "f"), "--latex", str(tmp_path / "t.tex")]
    assert run(["report", str(made.root), *arguments, "--csv", str(tmp_path / "t.csv")]) == 0
    printed = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert all(path.stat().st_size > 50 for path in printed)
    kinds_written = {path.suffix for path in printed}
    assert kinds_written == {".html", ".pdf", ".svg", ".tex", ".csv"}
    assert "tabular" in (tmp_path / "t.tex").read_text()
    assert "sparse" in (tmp_path / "t.csv").read_text()


def test_a_search_exits_with_0_and_3_and_prints_one_json_object(tmp_path, capsys):
    path = write(tmp_path / "r.yaml", TINY)
    common = ["search", str(path), "--workers", "0", "--out", str(tmp_path / "runs"), "--json"]
    assert run([*common, *SEARCH]) == 0
    printed = only_json(capsys)
    assert printed["winner"]["density"] == pytest.approx(0.5, abs=0.01)
    assert Path(printed["report"]).is_file()
    best = next((tmp_path / "runs").glob("search-*")) / "best"
    evaluated = ["--attack", "fgsm", "--eps", "0.1", "--num-samples", "10", "--json"]
    assert run(["evaluate", str(best), *evaluated]) == 0
    assert only_json(capsys)["cost"]["mask_density"] == pytest.approx(0.5, abs=0.01)
    assert run([*common, *SEARCH[:-2], "--min-clean", "1", "--min-robust", "1"]) == 3
    assert only_json(capsys)["winner"] is None


@pytest.mark.parametrize("kind", [*kinds(), "sparsifiers", "methods"])
def test_list_names_everything_with_a_line_each(kind, capsys):
    assert run(["list", kind]) == 0
    title, *lines = capsys.readouterr().out.splitlines()
    assert title == kind.removesuffix("s") + "s"
    names = [line.split()[0] for line in lines]
    assert names == sorted(names)
    assert set(registry(kind.removesuffix("s")).names()) <= set(names)
    assert all(len(line.split()) > 2 for line in lines), "every component says what it is"


def test_list_without_a_kind_lists_every_kind(capsys):
    assert run(["list"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.removesuffix("s") for line in printed if not line.startswith(" ")] == kinds()


def test_show_writes_out_levels(tmp_path, capsys):
    level = {"name": "level", "levels": 2, "start": {"weights": "dense@0it", "mask": "previous"}}
    level["start"]["mask"] = "none"
    path = write(tmp_path / "r.yaml", TINY | {"stages": [TINY["stages"][0], level]})
    assert run(["show", str(path)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"tiny-{load_recipe(path).identity()}: mlp on digits, seed 0\n")
    assert [line.split(":")[0].strip() for line in printed.splitlines()[1:]] == [
        "dense",
        "level-1",
        "level-2",
    ]


def test_help_is_quick_and_does_not_import_torch():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "wiry.cli", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "typer" in imported and not imported & {"torch", "numpy", "pydantic", "plotly"}
    assert all(f" {c} " in done.stdout for c in ("search", "train", "evaluate", "report", "schema"))
    seconds = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    assert seconds < 1.5


def test_a_pipe_that_closes_early_is_no_traceback():
    command = f"{sys.executable} -m wiry.cli schema | head -c 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("{", "")
