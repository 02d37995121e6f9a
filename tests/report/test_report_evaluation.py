"""The page of an evaluation's folder, from records written by hand."""

import re
from pathlib import Path

import pytest
from report_sample import build_run, write_json
from report_sample_evaluation import (
    NAMES,
    attack_rows,
    edited,
    flips,
    security_curve,
    transfer,
    write_evaluation,
)
from report_sample_page import Page

from wiry.report.attacks import short_names
from wiry.report.page import write_report

FOLDER = "evaluation-outside-net-0a1b2c3d"
DASH = "\N{EN DASH}"


@pytest.fixture
def root(tmp_path) -> Path:
    return write_evaluation(tmp_path / FOLDER)


def heads(path: Path) -> list[str]:
    return re.findall(r"<h2[^>]*>([^<]*)</h2>", path.read_text(encoding="utf-8"))


def charts(page: Page) -> dict[str, dict]:
    names = [str(a["id"]).removeprefix("chart-") for t, a in page.tags if t == "figure"]
    return dict(zip(names, page.charts, strict=True))


def test_the_page_says_doubts_first_then_how_good_the_network_is_and_by_what(root):
    text = Page(write_report(root)).text
    box = "Read this first. Warning (black-box): Hidden gradients."
    headline = "outside-net: 70.0 % robust, 90.0 % clean."
    assert text.index(box) < text.index(headline)
    assert f"90.0 % (87.1{DASH}92.9 %) of 400 images correctly" in text
    assert "under attack: AutoAttack (standard), eps 0.1, L\N{INFINITY}" in text
    assert "It keeps 20.0 % of its weights (200 of 1,000)." in text
    assert "AutoAttack (standard): APGD ce, FAB targeted, Square (eps 0.1" in text
    assert "The checks found one reason to doubt the numbers." in text


def test_the_sections_stand_in_order_and_are_there_only_if_there_is_something_to_say(root):
    write_json(root / "flips.json", flips())
    write_json(root / "transfer.json", transfer())
    write_json(root / "robustbench.json", {"clean_acc": "90.00", "unreliable": False})
    write_json(root / "target.json", {"dataset": "cifar10", "remarks": ["Weights were scaled."]})
    assert heads(write_report(root)) == [
        "Can the numbers be believed?",
        "What each attack takes",
        "Security curve",
        "Images nearest to the boundary",
        "Where it fails under attack",
        "Accuracy per class",
        "What sparsity changed",
        "Do attacks carry over?",
        "Cost",
        "What was judged",
        "Card: robustbench.json",
    ]
    bare = {"attacks": [], "measures": [], "per_class": [], "cost": {}, "robust_accuracy": None}
    edited(root / "evaluation.json", **bare)
    text = Page(root / "report.html").text
    assert "outside-net on cifar10: 70.0 % robust" in text and "Weights were scaled." in text
    for name in ("flips", "transfer", "robustbench", "target"):
        (root / f"{name}.json").unlink()
    assert heads(write_report(root)) == ["Can the numbers be believed?"]
    assert "outside-net: 90.0 % clean; no attack was run." in Page(write_report(root)).text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"findings": []}, "4 checks, nothing found."),
        ({"findings": [], "checks": None}, "The checks found nothing."),
        ({}, "4 checks, 2 things found, the gravest first. Check What was found"),
    ],
)
def test_the_checks_say_how_many_there_were(tmp_path, changes, said):
    assert said in Page(write_report(write_evaluation(tmp_path, **changes))).text


@pytest.mark.parametrize(
    "changes", [{"findings": None}, {"checks": []}, {"asked": {"check": False}, "findings": []}]
)
def test_where_nobody_looked_nothing_is_said_to_be_sound(tmp_path, changes):
    page = write_report(write_evaluation(tmp_path, **changes))
    assert "Can the numbers be believed?" not in heads(page)
    assert "No check looked for mistakes." in Page(page).text


def test_findings_are_sorted_by_severity_with_their_evidence(root):
    text = Page(write_report(root)).text
    start = text.index("things found")
    assert text.index("warning black-box Hidden gradients. only_square 0.01235", start) < (
        text.index("note num-samples Few images.", start)
    )


def test_an_error_takes_the_numbers_out_of_the_headline(root):
    error = {"check": "softmax-outputs", "severity": "error", "message": "No logits."}
    edited(root / "evaluation.json", findings=[error])
    text = Page(write_report(root)).text
    assert "Error (softmax-outputs): No logits. The numbers of outside-net are wrong" in text


def test_attacks_without_gradients_alone_are_called_black_box(root):
    row = attack_rows(0.9)[2]
    edited(root / "evaluation.json", attacks=[row], findings=[], protocol=None)
    text = Page(write_report(root)).text
    assert "Read this first. Black box only: no attack used gradients" in text
    assert "90.0 % clean (black box only)." in text
    finding = {"check": "black-box-only", "severity": "warning", "message": "Sees no gradient."}
    edited(root / "evaluation.json", findings=[finding])
    assert "no attack used gradients" not in Page(write_report(root)).text


def test_the_waterfall_leads_from_clean_to_robust(root):
    bars = charts(Page(write_report(root)))["attacks"]["data"]
    drawn = [(b["name"], b["base"][0], pytest.approx(b["x"][0]), b["text"][0]) for b in bars]
    minus = "\N{MINUS SIGN}"
    assert drawn == [
        ("right when clean", 0, 90, "90.0\xa0% (360)"),
        ("APGD ce", pytest.approx(75), 15, f"{minus}15.0\xa0% (60)"),
        ("FAB targeted", pytest.approx(70), 5, f"{minus}5.0\xa0% (20)"),
        ("Square", pytest.approx(70), 0, "nothing"),
        ("robust", 0, 70, "70.0\xa0% (280)"),
    ]
    text = Page(write_report(root)).text
    assert "Square Square(eps=0.1, norm='linf', num_queries=5000) 280 0 70.0 %" in text
    assert "All attacks: 4.5 s." in text


def test_attacks_that_were_not_run_in_turn_are_bars_of_accuracy(root):
    rows = [row | {"cumulative": False} for row in attack_rows(0.9)]
    edited(root / "evaluation.json", attacks=rows, cascade=False)
    bars = charts(Page(write_report(root)))["attacks"]["data"]
    assert [bar["base"][0] for bar in bars] == [0] * 5
    assert [bar["x"][0] for bar in bars] == [pytest.approx(x) for x in (90, 75, 70, 70, 70)]


def test_short_names_of_attacks_are_distinct():
    rows = [{"attack": name} for name in (*NAMES, "PGD()", "PGD(steps=3)", "not a repr" * 9)]
    assert short_names(rows) == [
        "APGD ce", "FAB targeted", "Square", "PGD", "PGD (2)",
        f"{('not a repr' * 9)[:31]}\N{HORIZONTAL ELLIPSIS}",
    ]  # fmt: skip


def test_the_security_curve_has_the_attacks_result_beside_it_and_its_values_in_tables(root):
    page = Page(write_report(root))
    line, mark = charts(page)["measure-0-0"]["data"]
    assert line["y"][0] == pytest.approx(90) and line["x"] == [0.0, 0.05, 0.1, 0.2]
    assert (mark["x"], mark["y"]) == ([0.1], [pytest.approx(70)])
    layout = charts(page)["measure-0-0"]["layout"]
    assert layout["shapes"][0]["x0"] == 0.1
    assert layout["xaxis"]["title"]["text"] == "eps (linf)"
    assert layout["yaxis"]["title"]["text"] == "accuracy (%)"
    shown = f"Median 0.083 Found share 50.0 % Number of samples 200 Unsaid {DASH}"
    assert f"Settings: steps 7. This network {shown}" in page.text
    assert "eps (linf) this network 0 90.0 %" in page.text


def test_the_nearest_images_come_by_distance_and_those_not_found_are_left_out(root):
    html = write_report(root).read_text(encoding="utf-8")
    found = re.findall(r'class="distance">([^<]*)<', html)
    assert [text.replace("\xa0", " ") for text in found] == [
        "L\N{INFINITY} distance 0.012 (3.1/255)",
        "L\N{INFINITY} distance 0.024 (6.1/255)",
        "L\N{INFINITY} distance 0.036 (9.2/255)",
    ]


def test_screening_and_certificates_are_told_with_their_bounds(root):
    screened = {"num_audited": 30, "num_flips": 0, "num_unseen": 200, "flip_bound": 0.095}
    screened |= {"accuracy_bound": 0.0475, "escalated": False}
    certified = {"method": "ibp", "num": 55}
    edited(root / "evaluation.json", protocol="screened", screened=screened, certified=certified)
    text = Page(write_report(root)).text
    assert "Bounds (IBP) prove 55 images right for every perturbation" in text
    assert "0 of 30 audited images fell. With 95 % confidence, at most 9.5 % of the 200" in text
    assert "confidence the robust accuracy is at most 4.8 points higher" in text
    edited(root / "evaluation.json", screened=screened | {"num_flips": 2, "escalated": True})
    assert "the audit lost 2 of 30 images, so all images met" in Page(write_report(root)).text


def test_flips_and_transfer_are_told(root):
    write_json(root / "flips.json", flips())
    write_json(root / "transfer.json", transfer())
    page = Page(write_report(root))
    assert "images that only big.pt2 has right; gained: only small.pt2." in page.text
    assert "PGD on 200 images." in page.text
    assert "Clean: 3 images lost, 2 gained; these images do not tell the two apart." in page.text
    assert "Robust: 70 images lost, 8 gained; these images tell the two apart." in page.text
    minus = "\N{MINUS SIGN}"
    assert f"70 8 20 {minus}15.5 points {minus}20.0 to {minus}10.0 below 0.0001" in page.text
    assert [t["y"] for t in charts(page)["flips"]["data"]] == [[50, 0], [50, 0]]
    heat = charts(page)["transfer"]["data"][0]
    assert heat["z"] == [[50, 70], [None, 40]]
    assert "clean images 95.0 % 90.0 % dense 50.0 % 70.0 %" in page.text


def test_a_run_shows_the_same_sections_beside_the_dense_network(tmp_path):
    stages = [{"name": "dense"}, {"name": "sparse", "density": 0.2, "robust": 0.8}]
    root = build_run(tmp_path / "run", stages)
    for stage, scale in (("1-dense", 0.2), ("2-sparse", 0.1)):
        folder = root / "stages" / stage / "eval"
        (folder / "test-0a1b2c3d.json").unlink()
        write_evaluation(folder, "test-0a1b2c3d", measures=[security_curve(scale)])
        write_json(folder / "flips.json", flips())
    path = write_report(root)
    page = Page(path)
    assert page.text.index("sparse: Warning (black-box)") < page.text.index("mlp on mnist keeps")
    assert heads(path)[4:8] == [
        "Can the numbers be believed?",
        "What each attack takes",
        "Security curve",
        "Images nearest to the boundary",
    ]
    assert "What sparsity changed" in heads(path)
    names = [trace["name"] for trace in charts(page)["measure-0-0"]["data"]]
    assert names[:2] == ["this network", "dense network"]
    assert "eps (linf) this network dense network 0 90.0 % 90.0 %" in page.text


def test_the_dense_network_is_shown_as_it_was_judged_by_the_same_attacks(tmp_path):
    stages = [{"name": "dense"}, {"name": "sparse", "density": 0.2, "robust": 0.8}]
    root = build_run(tmp_path / "run", stages)
    dense, sparse = (root / "stages" / name / "eval" for name in ("1-dense", "2-sparse"))
    write_evaluation(sparse, "test-ffff", num_samples=20_000, findings=[])
    text = Page(write_report(root)).text
    assert "dense was not judged as sparse was (other images or attacks)" in text
    write_evaluation(dense, "test-ffff", clean=0.95, num_samples=20_000, findings=[])
    write_evaluation(dense, "test-more", num_samples=30_000, findings=[])
    text = Page(write_report(root)).text
    assert "not judged as" not in text
    assert "the dense network, 95.0 % and 75.0 %." in text
