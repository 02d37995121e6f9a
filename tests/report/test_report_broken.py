"""The page of runs that were killed, harmed or never begun: the rest is shown, the gap is named."""

from pathlib import Path

import pytest
from report_sample import TINY, build_run
from report_sample_page import Page
from report_sample_search import build_search, row

from wiry.core.errors import UserError
from wiry.report.page import write_report

STAGES = [{"name": "dense"}, {"name": "sparse", "density": 0.2, "robust": 0.8}]


def _drop(root: Path, name: str) -> None:
    next(root.glob(name)).unlink()


def _cut(root: Path, name: str) -> None:
    path = next(root.glob(name))
    path.write_bytes(path.read_bytes()[:-40])


LAST = "stages/2-sparse"


@pytest.mark.parametrize(
    ("harm", "name", "note"),
    [
        (_drop, "recipe.yaml", "recipe.yaml: missing."),
        (_drop, "provenance.json", "provenance.json: missing."),
        (_cut, "provenance.json", "provenance.json: not readable (half-written?), left out."),
        (_drop, f"{LAST}/DONE", f"{LAST}: not finished (no DONE)."),
        (_cut, f"{LAST}/DONE", f"{LAST}/DONE: not readable (half-written?), left out."),
        (_drop, f"{LAST}/metrics.jsonl", f"{LAST}/metrics.jsonl: missing."),
        (_cut, f"{LAST}/metrics.jsonl", f"{LAST}/metrics.jsonl: line 12 is cut short"),
        (_drop, f"{LAST}/eval/*.json", f"{LAST}/eval: not evaluated."),
        (_cut, f"{LAST}/eval/*.json", f"{LAST}/eval/test-0a1b2c3d.json: not readable"),
        (_drop, f"{LAST}/eval/*.npz", "eval/test-0a1b2c3d.npz: missing"),
        (_cut, f"{LAST}/eval/*.npz", "eval/test-0a1b2c3d.npz: not readable"),
    ],
)
def test_a_missing_or_half_written_piece_is_left_out_and_named(tmp_path, harm, name, note):
    root = build_run(tmp_path / "run", STAGES)
    harm(root, name)
    text = Page(write_report(root)).text
    assert note in text[text.index(" Notes") :]
    assert "mlp on mnist keeps" in text or name == "recipe.yaml"


@pytest.mark.parametrize("harm", [_drop, _cut])
def test_without_a_readable_mask_only_its_chart_is_missing(tmp_path, harm):
    root = build_run(tmp_path / "run", STAGES)
    assert "Initial weights that survive" in Page(write_report(root)).text
    harm(root, f"{LAST}/mask.safetensors")
    text = Page(write_report(root)).text
    assert "Initial weights that survive" not in text
    assert "Weights left per layer" in text


def test_an_unfinished_run_says_where_it_is(tmp_path):
    stages = [{"name": "dense"}, {"name": "sparse", "density": 0.2, "done": False}]
    page = Page(write_report(build_run(tmp_path / "run", stages)))
    assert "The run has not finished: stage 'sparse' is still open, at step 4,692." in page.text
    assert "stages/2-sparse: not finished (no DONE)." in page.text


def test_a_run_without_any_stage_is_a_page_too(tmp_path):
    page = Page(write_report(build_run(tmp_path / "run", [])))
    assert "No network of mlp on mnist has been evaluated yet." in page.text
    assert page.charts == []


def test_a_search_without_its_trials_still_has_its_verdict(tmp_path):
    root = build_search(tmp_path / "search", dense=row("dense", 1.0, 0.98, 0.92, run="trials/no"))
    page = Page(write_report(root))
    assert "trials/no: the run of 'dense' is missing." in page.text


def test_numbers_that_json_does_not_know_do_not_break_the_charts(tmp_path):
    root = build_run(tmp_path / "run", [{"name": "dense"}], layers=TINY)
    metrics = root / "stages" / "1-dense" / "metrics.jsonl"
    metrics.write_text(metrics.read_text() + '{"step": 9999, "validation_loss": NaN}\n')
    assert Page(write_report(root)).charts


def test_a_directory_that_is_neither_run_nor_search_is_refused(tmp_path):
    with pytest.raises(UserError, match="neither a run nor a search"):
        write_report(tmp_path)
