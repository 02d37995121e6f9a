"""The box at the top of the page: what is wrong with finished stages is said before the numbers."""

import json
from pathlib import Path

import pytest
from report_sample import build_run, write_json
from report_sample_page import Page
from report_sample_search import build_search

from wiry.report.alarms import single_class
from wiry.report.collect import collect_run
from wiry.report.evaluations import Evaluation
from wiry.report.page import write_report

STAGES = [{"name": "dense"}, {"name": "sparse", "density": 0.2, "robust": 0.8}]
LAST = "stages/2-sparse"


def box(root: Path) -> str:
    """Return the text of the box, which stands before the headline; empty without one."""
    page = Page(write_report(root))
    if not any(attrs.get("class") == "warnings" for _, attrs in page.tags):
        return ""
    start = page.text.index("Read this first.")
    end = page.text.index("mlp on mnist", start)
    return page.text[start:end]


def _cut(path: Path) -> None:
    path.write_text("{")


def test_a_sound_run_and_a_sound_search_have_no_box(tmp_path):
    assert box(build_run(tmp_path / "run", STAGES)) == ""
    assert box(build_search(tmp_path / "search")) == ""


def test_an_unreadable_evaluation_of_the_last_stage_says_which_stage_the_page_is_about(tmp_path):
    root = build_run(tmp_path / "run", STAGES)
    _cut(next((root / LAST).glob("eval/*.json")))
    text = box(root)
    assert f"{LAST}/eval/test-0a1b2c3d.json: not readable" in text
    assert "this page is about the earlier stage 'dense'" in text
    assert "stage 'sparse' has finished" in text


@pytest.mark.parametrize(
    ("name", "harm", "note"),
    [
        ("DONE", _cut, "DONE: not readable"),
        ("metrics.jsonl", _cut, "metrics.jsonl: line 1 is cut short"),
        ("metrics.jsonl", Path.unlink, "metrics.jsonl: missing."),
        ("eval/test-0a1b2c3d.json", Path.unlink, "this page is about the earlier stage 'dense'"),
        ("eval/test-0a1b2c3d.npz", Path.unlink, "eval/test-0a1b2c3d.npz: missing"),
        ("weights.safetensors", Path.unlink, "weights.safetensors: missing, though DONE lists it."),
    ],
)
def test_what_is_wrong_with_a_finished_stage_is_said_at_the_top(tmp_path, name, harm, note):
    root = build_run(tmp_path / "run", STAGES)
    done = root / LAST / "DONE"
    write_json(done, json.loads(done.read_text()) | {"files": {"weights.safetensors": "0"}})
    harm(root / LAST / name)
    assert note in box(root)


def test_a_stage_that_has_not_finished_is_no_warning(tmp_path):
    stages = [*STAGES, {"name": "open", "density": 0.1, "done": False}]
    root = build_run(tmp_path / "run", stages)
    _cut(root / "stages/3-open/metrics.jsonl")
    assert box(root) == ""
    assert len(collect_run(root).notes) == 2


def test_a_search_names_the_run_that_is_harmed(tmp_path):
    root = build_search(tmp_path / "search")
    _cut(next((root / "trials/best-01/stages/2-finetune").glob("eval/*.json")))
    assert "trials/best-01/stages/2-finetune/eval/test-0a1b2c3d.json: not readable" in box(root)


def judged(*classes: tuple[int, float]) -> Evaluation:
    rows = [{"name": "abc"[i], "num": n, "clean": share} for i, (n, share) in enumerate(classes)]
    num = sum(n for n, _ in classes)
    clean = sum(n * share for n, share in classes) / num
    return Evaluation(Path("test-0.json"), "test", num, clean, per_class=rows)


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ([(10, 0.0), (20, 1.0), (5, 0.0)], "b"),
        ([(10, 1.0), (20, 0.0), (5, 0.0)], "a"),
        ([(10, 0.0), (20, 0.9), (5, 0.0)], None),  # the others of b are taken for another class
        ([(10, 0.1), (20, 1.0), (5, 0.0)], None),
        ([(10, 0.0), (20, 0.0), (5, 0.0)], None),
        ([(0, 0.0), (20, 1.0)], None),  # there is only one class to be right about
        ([(20, 1.0)], None),
    ],
)
def test_one_class_is_predicted_where_it_alone_is_right_and_wholly(classes, expected):
    assert single_class(judged(*classes)) == expected


def test_a_network_that_predicts_one_class_is_named_at_the_top(tmp_path):
    root = build_run(tmp_path / "run", STAGES)
    path = next((root / LAST).glob("eval/*.json"))
    found = json.loads(path.read_text())
    for position, row in enumerate(found["per_class"]):
        row["clean"] = row["robust"] = float(position == 1)
    write_json(path, found | {"clean_accuracy": 0.1, "robust_accuracy": 0.1})
    assert "sparse: predicts one class only ('one')." in box(root)


def test_what_the_monitor_warned_of_is_said_at_the_top(tmp_path):
    root = build_run(tmp_path / "run", STAGES)
    path = root / LAST / "metrics.jsonl"
    *rows, last = path.read_text().splitlines()
    row = json.loads(last) | {"alarm": "catastrophic overfitting <b>at step 9</b>"}
    path.write_text("\n".join([*rows, json.dumps(row)]) + "\n")
    assert "sparse: catastrophic overfitting <b>at step 9</b>" in box(root)
