"""LaTeX, CSV, PDF and SVG over several runs."""

import csv
import itertools

import pytest
from report_sample import build_run, lottery_stages
from report_sample_search import build_search

from wiry.core.errors import UserError
from wiry.report.collect import collect_run
from wiry.report.figures import step_figure, write_figures
from wiry.report.figures_lottery import weight_figure
from wiry.report.series import group_runs
from wiry.report.tables import latex_escape, write_csv, write_latex


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """Two seeds of one strategy and one of another."""
    folder = tmp_path_factory.mktemp("runs")
    found = []
    for name, seed in (("original", 0), ("original", 1), ("random_draw", 0)):
        stages = lottery_stages(4)
        for stage in stages:
            stage["robust"] += 0.02 * seed
        found.append(build_run(folder / f"{name}-{seed}", stages, name=name, seed=seed))
    return found


def test_the_latex_table_has_a_row_per_density_and_the_spread_over_seeds(roots, tmp_path):
    write_latex(roots, tmp_path / "table.tex")
    text = (tmp_path / "table.tex").read_text()
    assert r"\multicolumn{2}{c}{original (n = 2)} & \multicolumn{2}{c}{random\_draw} \\" in text
    row = r"100.0 & $98.10 \pm 0.00$ & $46.30 \pm 1.41$ & $98.10$ & $45.30$ \\"
    assert row in text
    lines = [line for line in text.splitlines() if line[0].isdigit()]
    assert [line.split(" & ")[0] for line in lines] == ["100.0", "80.0", "64.0", "51.2", "41.0"]


def test_latex_commands_in_names_are_escaped():
    assert latex_escape(r"a_b\input{x}%$") == r"a\_b\textbackslash{}input\{x\}\%\$"


def test_the_csv_table_has_a_row_per_network_and_attack(roots, tmp_path):
    write_csv(roots, tmp_path / "table.csv")
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 5 * 3
    first = rows[0]
    assert (first["recipe"], first["stage"], first["num_seeds"]) == ("original", "dense", "2")
    assert first["attack"].startswith("worst case of 2 attacks")
    assert float(first["robust_mean"]) == pytest.approx(0.463)
    assert float(first["robust_std"]) == pytest.approx(0.02 / 2**0.5)
    assert first["runs"] == "original-0 original-1"
    assert rows[-1]["robust_std"] == ""


def test_figures_are_written_as_pdf_and_svg(roots, tmp_path):
    paths = write_figures(roots, tmp_path / "figures")
    names = {path.stem for path in paths}
    assert names == {
        "steps-accuracy",
        "steps-robust-accuracy",
        "steps-loss",
        "density",
        "early-stop",
        "initial-weights-original",
        "initial-weights-random_draw",
    }
    assert {path.suffix for path in paths} == {".pdf", ".svg"}
    for path in paths:
        start = path.read_bytes()[:5]
        assert start == (b"%PDF-" if path.suffix == ".pdf" else b"<?xml")
    svg = (tmp_path / "figures" / "steps-robust-accuracy.svg").read_text()
    for text in ("original and random_draw", "weights left", "51.2 %", "training step"):
        assert text in svg


def test_a_figure_of_the_same_runs_is_the_same_file(tmp_path):
    root = build_run(tmp_path / "run", [{"name": "a"}, {"name": "b", "density": 0.5}])
    one = write_figures([root], tmp_path / "one")
    two = write_figures([root, root], tmp_path / "two")
    assert [p.name for p in one] == [p.name for p in two]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(one, two, strict=True))


def test_a_curve_of_one_point_is_a_marker(tmp_path):
    for num_rows, marker in ((1, "o"), (3, "None")):
        root = build_run(tmp_path / str(num_rows), [{"name": "a", "num_rows": num_rows}])
        figure = step_figure(group_runs([collect_run(root)]), "loss", "loss", 1)
        assert figure is not None
        (line,) = figure.axes[0].lines
        assert (len(line.get_xdata()), line.get_marker()) == (num_rows, marker)


def test_long_names_do_not_run_into_each_other(tmp_path):
    long = "mnist-mlp-lottery-pgd-{}-with-a-name-that-has-no-end-because-everything-is-in-it"
    layers = {"a.very.long.layer.name." * 3 + end: (8, 16) for end in "xyz"}
    roots = [
        build_run(tmp_path / name, lottery_stages(3), name=long.format(name), layers=layers)
        for name in ("init", "dense", "reinit")
    ]
    groups = group_runs(collect_run(root) for root in roots)
    for figure in (step_figure(groups, "loss", "loss", 1), weight_figure(groups[0].runs[0])):
        assert figure is not None
        figure.draw_without_rendering()
        boxes = [axis.title.get_window_extent() for axis in figure.axes]
        assert len(boxes) == 3 and boxes[0].x0 >= 0
        assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))
        assert boxes[-1].x1 < figure.legends[0].get_window_extent().x0


def test_a_search_with_dollars_in_its_names_can_be_drawn(tmp_path):
    root = build_search(tmp_path / "search", methods=("$x^$", "b"))
    (path, _) = write_figures([root], tmp_path / "figures")
    assert path.name == "density.pdf"


def test_runs_without_numbers_are_refused(tmp_path):
    root = build_run(tmp_path / "run", [])
    with pytest.raises(UserError, match="nothing to draw"):
        write_figures([root], tmp_path / "figures")
    with pytest.raises(UserError, match="nothing to tabulate"):
        write_latex([root], tmp_path / "table.tex")
    with pytest.raises(UserError, match="no directory was named"):
        write_csv([], tmp_path / "table.csv")
