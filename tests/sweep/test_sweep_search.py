"""The search on a network that trains in a moment: what it decides, resumes and writes."""

import json

import pytest

from wiry.cli import run
from wiry.core.files import read_json

QUICK = [
    "--set",
    "stages.0.epochs=2",
    "--set",
    "model={name: mlp, widths: [16]}",
    "--seeds",
    "0,1",
    "--min-density",
    "0.2",
    "--workers",
    "0",
]


def search(tmp_path, *arguments):
    return run(["search", *QUICK, "--out", str(tmp_path), *arguments])


def outcome(tmp_path):
    (path,) = tmp_path.glob("search-*/search.json")
    return read_json(path)


def test_a_search_writes_winner_bundle_and_page(tmp_path, capsys):
    assert search(tmp_path, "--max-drop", "0.9", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    winner = printed["winner"]
    assert winner["density"] == pytest.approx(
        0.2, abs=0.001
    )  # everything passes, so the least one wins
    assert winner["sparsity"] == pytest.approx(1 - winner["density"], abs=0.01)
    assert winner["eps"] == 0.15 and winner["norm"] == "linf"
    low, high = winner["robust_interval"]
    assert low <= winner["robust_accuracy"] <= high
    root = next(tmp_path.glob("search-*"))
    assert (root / "report.html").stat().st_size > 100_000
    assert {p.name for p in (root / "best").iterdir()} >= {
        "weights.safetensors",
        "mask.safetensors",
        "recipe.yaml",
        "card.md",
    }


def test_no_candidate_gives_exit_code_3_and_the_nearest(tmp_path, capsys):
    assert search(tmp_path, "--min-clean", "0.999", "--min-robust", "0.999", "--json") == 3
    printed = json.loads(capsys.readouterr().out)
    assert printed["winner"] is None and printed["nearest"]["method"] in ("one-shot", "lottery")
    assert not list(tmp_path.glob("search-*/best"))


def test_a_second_run_and_a_run_in_processes_give_the_same_result(tmp_path, capsys):
    search(tmp_path / "a", "--max-drop", "0.1", "--methods", "one-shot,gradual")
    first = outcome(tmp_path / "a")
    search(tmp_path / "a", "--max-drop", "0.1", "--methods", "one-shot,gradual")
    assert "nothing is trained again" in capsys.readouterr().out
    search(tmp_path / "b", "--max-drop", "0.1", "--methods", "one-shot,gradual", "--workers", "2")
    second = outcome(tmp_path / "b")
    for key in ("winner", "candidates", "dense", "constraint"):
        assert first[key] == second[key], key


def test_the_test_split_is_looked_at_for_finalists_only(tmp_path):
    search(tmp_path, "--max-drop", "0.9", "--methods", "one-shot")
    for row in outcome(tmp_path)["candidates"]:
        assert (row["clean_accuracy"] is not None) == (row["verdict"] in ("winner", "meets"))
    for path in next(tmp_path.glob("search-*")).rglob("eval/test-*.json"):
        assert "one-shot-0.2" in str(path) or "dense" in str(path)


def test_a_budget_cuts_and_a_larger_one_goes_on(tmp_path):
    assert search(tmp_path, "--max-drop", "0.9", "--budget", "0.01s") == 3
    cut = outcome(tmp_path)
    assert cut["stopped"] == "budget" and cut["candidates"] == []
    assert search(tmp_path, "--max-drop", "0.9", "--budget", "1h") == 0
    assert outcome(tmp_path)["stopped"] is None
