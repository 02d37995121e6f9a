"""The page: what it says, that names cannot break it, that it loads nothing."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from report_sample import build_run, lottery_stages
from report_sample_page import Page
from report_sample_search import build_search, row

from wiry.report.page import write_report
from wiry.report.parts import script_json

HOSTILE = '</script><img src=x onerror="alert(1)"><b>&amp;'


def headings(page: Path) -> list[str]:
    return re.findall(r"<h2[^>]*>([^<]*)</h2>", page.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def search_page(tmp_path_factory) -> Page:
    root = build_search(tmp_path_factory.mktemp("search") / "search-mnist-mlp-0a1b2c3d", seeds=3)
    return Page(write_report(root))


def test_a_search_says_first_what_is_left_and_how_good_it_is(search_page):
    text = search_page.text
    assert "mlp on mnist keeps 6.2 % of its weights (16,638 of 160)" in text  # a tiny mask's total
    lead = (
        "It classifies 97.9 % of clean test images correctly and 90.4 % under attack "
        "(eps 8/255, L\N{INFINITY}); the dense network, 98.4 % and 92.1 %."
    )
    assert lead in text
    assert text.index(lead) < text.index("Candidates")


def test_a_search_says_how_sure_it_is_and_where_the_network_lies(search_page):
    text = search_page.text
    assert "The clean intervals overlap: these images do not tell the two networks apart." in text
    assert "The robust intervals do not overlap: the loss of 1.7 points is more than" in text
    assert "Over 3 training seeds: clean 97.9 \N{PLUS-MINUS SIGN} 0.1 %" in text
    assert "Test images 10,000" in text
    assert "worst case of 2 attacks: PGD(eps=8/255, steps=50)" in text
    assert "best/weights.safetensors (48,211 bytes)" in text


def test_a_search_shows_its_sections_in_order(tmp_path):
    page = write_report(build_search(tmp_path / "search"))
    assert headings(page) == [
        "Candidates",
        "Accuracy against weights left",
        "Training",
        "What each attack takes",
        "Where it fails under attack",
        "Accuracy per class",
        "Weights left per layer",
        "Cost",
        "Recipe",
        "Provenance",
    ]


def test_the_table_of_candidates_has_every_row_and_marks_the_chosen_one(search_page):
    kinds = [attrs.get("class") for tag, attrs in search_page.tags if tag == "tr"]
    assert kinds.count("chosen") == 1
    assert kinds.count("baseline") == 1
    text = search_page.text
    candidates = text[text.index("Candidates") : text.index("Above under")]
    assert [candidates.count(m) for m in ("hydra", "lottery", "gradual-magnitude")] == [3, 3, 3]
    assert "66,550" in candidates
    assert "97.6\N{EN DASH}98.2 %" in candidates


def test_the_density_chart_has_two_panels_a_colour_per_method_bands_and_limits(search_page):
    chart = search_page.charts[0]
    colors = {t["name"]: t["marker"]["color"] for t in chart["data"]}
    assert colors == {
        "hydra": "@series-0",
        "lottery": "@series-1",
        "gradual-magnitude": "@series-2",
    }
    assert len(chart["data"]) == 12
    assert chart["layout"]["xaxis"]["type"] == "log"
    chosen, tested = chart["data"][:2]
    assert chosen["x"] == tested["x"] == [25.0, 6.25, 2.0]
    assert chosen["y"] == [pytest.approx(y, abs=0.01) for y in (91.58, 90.39, 88.32)]
    assert tested["y"] == [None, pytest.approx(90.39, abs=0.01), None]
    assert tested["error_y"]["array"] == [0, pytest.approx(0.578, abs=0.001), 0]
    limits = [s["y0"] for s in chart["layout"]["shapes"] if s["line"].get("dash") == "dash"]
    assert limits == [89.5, pytest.approx(96.4)]
    assert [s["type"] for s in chart["layout"]["shapes"]].count("rect") == 2


def test_validation_and_test_accuracies_are_never_on_one_line_or_in_one_column(tmp_path):
    near = row("hydra", 0.1, 0.6, 0.4, validation_clean=0.9, validation_robust=0.5)
    root = build_search(tmp_path / "search", candidates=[near], winner=None, nearest=near)
    page = Page(write_report(root))
    assert "90.0 % 50.0 % 60.0 %" in page.text
    for trace in page.charts[0]["data"]:
        on_line = trace["mode"] == "lines+markers"
        assert trace["y"][0] in ((50, 90) if on_line else (40, 60))


def test_without_a_winner_the_page_says_so_and_shows_the_nearest(tmp_path):
    root = build_search(tmp_path / "search", found=False, stopped="budget")
    text = Page(write_report(root)).text
    assert "No sparse mlp on mnist meets the limits: clean and robust accuracy at most 2" in text
    assert "stopped after 1 h 2 min because its time budget was used up" in text
    assert "The nearest, by hydra, keeps 6.2 % of its weights" in text


def test_a_nearest_network_without_test_numbers_is_described_on_validation(tmp_path):
    near = row("hydra", 0.1, None, None, validation_clean=0.9, validation_robust=0.5)
    root = build_search(tmp_path / "search", found=False, nearest=near, winner=None)
    text = Page(write_report(root)).text
    assert "On validation images it classifies 90.0 % correctly and 50.0 % under attack" in text


def test_hostile_names_stay_text_everywhere(tmp_path):
    classes = (HOSTILE, *"bcdefghij")
    layers = {HOSTILE: (8, 16), "second.weight": (4, 8)}
    root = build_search(tmp_path / "s", methods=(HOSTILE, "b"), classes=classes, layers=layers)
    path = write_report(root)
    page, calm = Page(path), Page(write_report(build_search(tmp_path / "calm", methods=("a", "b"))))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in calm.tags]
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert HOSTILE in page.text
    assert len(page.charts) == len(calm.charts)
    assert "<img" not in json.dumps(page.charts)  # plotly reads markup in its texts: it gets none


def test_json_in_a_script_element_cannot_end_it():
    written = script_json({"name": "</script><!--&"})
    assert not set("<>&") & set(written)
    assert json.loads(written) == {"name": "</script><!--&"}


def test_the_page_loads_nothing_from_outside(tmp_path):
    run = build_run(tmp_path / "run", lottery_stages(4))
    for page in (Page(write_report(run)), Page(write_report(build_search(tmp_path / "search")))):
        assert not [tag for tag, _ in page.tags if tag in ("link", "iframe", "object", "embed")]
        loads = [v for _, attrs in page.tags for k in ("src", "href") if (v := attrs.get(k))]
        assert loads
        assert all(load.startswith("data:image/png;base64,") for load in loads)
        policy = next(a["content"] for t, a in page.tags if a.get("http-equiv"))
        assert policy and policy.startswith("default-src 'none'; img-src data: blob:")
        assert sum(tag == "script" and "type" not in a for tag, a in page.tags) == 2


def test_a_run_shows_its_stages_and_the_lottery_charts(tmp_path):
    page = write_report(build_run(tmp_path / "run", lottery_stages(5)))
    assert headings(page)[:5] == [
        "Stages",
        "Accuracy against weights left",
        "Training",
        "Early stopping",
        "Initial weights that survive",
    ]
    text = Page(page).text
    assert "mlp on mnist keeps 32.8 % of its weights" in text
    assert "level-5 of run run" in text
    assert "stages/6-level-5/weights.safetensors" in text


def test_every_chart_and_image_has_words_for_those_who_do_not_see_it(search_page):
    plots = [attrs for tag, attrs in search_page.tags if attrs.get("class") == "plot"]
    assert len(plots) == len(search_page.charts)
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in plots)
    images = [attrs for tag, attrs in search_page.tags if tag == "img"]
    assert len(images) == 24
    assert all(attrs["alt"] for attrs in images)
    cells = [attrs for tag, attrs in search_page.tags if tag == "th"]
    assert all(attrs.get("scope") in ("row", "col") for attrs in cells)


def test_the_report_imports_no_torch():
    rooms = "page, wiry.report.figures, wiry.report.tables"
    code = f"import wiry.report.{rooms}, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
