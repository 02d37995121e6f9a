"""What a comparison's page takes from the evaluations of its runs."""

import json
import re

import pytest
from report_sample import write_json
from report_sample_compare import ROBUST, SPARSITIES, build
from report_sample_evaluation import edited, record, security_curve
from report_sample_page import Page

from wiry.report.compare import collect_comparison
from wiry.report.compare_judged import mean_curve, protocol_text, read_judged
from wiry.report.evaluations import CurveData
from wiry.report.page import write_report


def runs(root, **changes):
    """Write the evaluations of a comparison's networks, two seeds each, and name them in rows."""
    keys = [("dense", 0.0), *((m, s) for m in ROBUST for s in SPARSITIES)]
    rows = []
    for position, (method, sparsity) in enumerate(keys):
        for seed in (0, 1):
            run = f"trials/{position}-{seed}"
            rows.append({"method": method, "sparsity": sparsity, "seed": seed, "run": run})
            rows[-1] |= {"stage": "last", "status": "done"}
            judged = record(findings=[], measures=[security_curve(0.1 + seed)]) | changes
            write_json(root / run / "stages/3-last/eval/test-0a.json", judged)
    return build(root, rows=rows)


def test_the_page_says_by_which_protocol_the_networks_were_judged(tmp_path):
    screened = {"accuracy_bound": 0.04, "num_audited": 3}
    text = Page(write_report(runs(tmp_path, protocol="screened", screened=screened))).text
    said = "Judged by screened (with 95 % confidence for each network, at most 4.0 points too high)"
    assert f"{said}: APGD; Square (worst case an image)" in text
    assert "Read this first" not in text


def test_the_security_curves_are_means_over_seeds_one_plot_a_sparsity(tmp_path):
    path = write_report(runs(tmp_path))
    assert re.findall(r'<h2 id="([\w-]+)">', path.read_text())[2:4] == ["lines", "security"]
    page = Page(path)
    names = [str(a["id"]) for t, a in page.tags if t == "figure"]
    drawn = dict(zip(names, page.charts, strict=True))
    first = drawn["chart-security-0"]["data"]
    assert [t["name"] for t in first] == ["dense", "rigl", "&lt;b&gt;set", "hydra"]
    assert first[0]["y"][2] == pytest.approx(100 * 0.9 * (2**-1 + 2 ** -(0.1 / 1.1)) / 2)
    assert "chart-security-1" in drawn and "90.0 % sparsity as a table" in page.text


def test_networks_that_were_not_judged_alike_are_a_warning(tmp_path):
    root = runs(tmp_path)
    edited(root / "trials/1-0/stages/3-last/eval/test-0a.json", protocol=None, attack="PGD()")
    text = Page(write_report(root)).text
    assert "not judged alike (AutoAttack (standard); PGD()): their robust" in text
    assert text.index("not judged alike") < text.index("rigl is the most robust")


def test_findings_are_said_once_with_the_first_network_and_how_many_more(tmp_path):
    doubt = {"check": "mask", "severity": "error", "message": "Not in force.", "evidence": {}}
    note = doubt | {"severity": "note", "message": "Quiet."}
    text = Page(write_report(runs(tmp_path, findings=[doubt, note]))).text
    assert "Error (mask) for dense, seed 0 and 13 more: Not in force." in text
    assert "Quiet." not in text


def test_the_winners_under_all_attacks_have_a_table(tmp_path):
    row = {"method": "rigl", "sparsity": 0.9, "num_seeds": 2, "screened_accuracy": 0.61}
    row |= {"robust_accuracy": 0.6, "robust_interval": [0.5, 0.7]}
    finalists = [row | {"protocol": "AutoAttack (standard)"}, {"method": "dense"}]
    root = build(tmp_path, finalists=finalists)
    text = Page(write_report(root)).text
    assert "Judged by rigl 90.0 % 2 61.0 % 60.0 % 50.0\N{EN DASH}70.0 % AutoAttack" in text
    for value in (None, 3, [None, 1], {"a": "b"}):
        edited(root / "compare.json", finalists=value)
        assert "The winners under all attacks" not in Page(write_report(root)).text


def test_a_row_names_its_evaluation_where_there_are_several(tmp_path):
    root = runs(tmp_path)
    folder = root / "trials/1-0/stages/3-last/eval"
    write_json(folder / "test-0b.json", record(protocol="other"))
    assert len(read_judged(collect_comparison(root))) == 13  # of two, nobody knows which
    rows = json.loads((root / "compare.json").read_text())["rows"]
    edited(root / "compare.json", rows=[row | {"evaluation": "test-0a"} for row in rows])
    judged = read_judged(collect_comparison(root))
    assert len(judged) == 14 and protocol_text(judged) == "AutoAttack (standard)"


def test_without_the_runs_the_page_is_as_before(tmp_path):
    path = write_report(build(tmp_path))
    assert 'id="security"' not in path.read_text()
    assert "Judged by APGD; Square (worst case an image)" in Page(path).text
    assert protocol_text(read_judged(collect_comparison(tmp_path))) == ""


@pytest.mark.parametrize("rows", [None, 3, [None, 1, {}], [{"sparsity": 0.9, "run": 3}]])
def test_malformed_rows_are_left_out(tmp_path, rows):
    assert read_judged(collect_comparison(build(tmp_path, rows=rows))) == []


def test_the_mean_of_curves_is_over_the_points_that_all_have():
    one = CurveData("c", "x", [0.0, 1.0, 2.0], [1.0, 0.5, 0.0], "y")
    two = CurveData("c", "x", [0.0, 2.0, 3.0], [0.5, 0.25, 0.0], "y")
    mean = mean_curve([one, two])
    assert (mean.x, mean.y) == ([0.0, 2.0], [0.75, 0.125])
    assert mean_curve([one, CurveData("c", "x", [9.0], [1.0], "y")]) == one
