"""The page of a comparison, from a compare.json written by hand."""

import re

import pytest
from report_sample_compare import ROBUST, SPARSITIES, build, cell

from wiry.core.errors import UserError
from wiry.report.compare import collect_comparison
from wiry.report.compare_heat import STAR, TIE, heat_plot
from wiry.report.compare_page import comparison_verdict, reasons_of
from wiry.report.compare_plots import NUM_SHOWN, cost_plots, frontier, lines_plot
from wiry.report.compare_tables import full_table, winner_table
from wiry.report.page import write_report


@pytest.fixture
def data(tmp_path):
    return collect_comparison(build(tmp_path))


def test_the_page_has_every_section_and_names_are_escaped(tmp_path):
    page = write_report(build(tmp_path)).read_text()
    heads = re.findall(r'<h2 id="(\w+)">', page)
    assert heads == ["winners", "methods", "lines", "costs", "reasons", "reading"]
    assert "rigl is the most robust at every sparsity." in page
    assert "<b>set" not in page.partition("<script>")[0].replace("&lt;b&gt;set", "")
    assert "Read this first" not in page


def test_a_comparison_that_goes_on_says_so(tmp_path):
    page = write_report(build(tmp_path, finished=False)).read_text()
    assert "Read this first" in page and "has not finished" in page


def test_the_verdict_says_who_wins_and_how_surely(data):
    verdict = comparison_verdict(data)
    assert verdict.headline == "rigl is the most robust at every sparsity."
    assert "cannot be told from the second, <b>set: 1.0 points (-2.0 to +4.0)." in verdict.lead
    assert "is apart from the second, <b>set: 10.0 points (+5.0 to +15.0)." in verdict.lead
    assert [tile.value for tile in verdict.tiles] == ["60.0\xa0%", "30.0\xa0%"]


def test_different_winners_are_all_in_the_headline(tmp_path):
    columns = [{"sparsity": s, "winner": w} for s, w in zip(SPARSITIES, ("a", "b"), strict=True)]
    verdict = comparison_verdict(collect_comparison(build(tmp_path, columns=columns)))
    assert verdict.headline == "The most robust: a at 90.0\xa0%, b at 99.0\xa0% sparsity."


def test_the_tables_hold_the_numbers(data):
    first, second = winner_table(data).rows
    assert [c.text for c in first.cells][1:6] == [
        "rigl", "60.0 \xb1 1.5\xa0%", "<b>set", "+1.0 points", "not apart",
    ]  # fmt: skip
    assert second.cells[5].text == "apart" and second.cells[6].text == "none"
    rows = full_table(data).rows
    assert len(rows) == 1 + 4 * 2 and rows[0].kind == "baseline"
    assert [r.cells[0].text for r in rows if r.kind == "chosen"] == ["rigl", "rigl"]


def test_the_heat_map_marks_best_ties_and_what_is_not_ranked(data):
    shade = heat_plot(data).data[0]
    assert shade["z"][0] == [0, 0] and shade["z"][1] == [pytest.approx(-1), pytest.approx(-10)]
    assert shade["z"][2] == [pytest.approx(-10), None] and shade["z"][3] == [None, None]
    assert shade["text"][0][0] == f"<b>60.0 \xb1 1.5 {STAR}</b>"
    assert shade["text"][1] == [f"59.0 \xb1 1.5 {TIE}", "20.0 \xb1 1.5"]
    notes = [note["text"] for note in heat_plot(data).layout["annotations"]]
    assert notes == ["(40.0 \xb1 1.5)", "not possible", "not possible"]
    assert shade["y"][1] == "&lt;b&gt;set"


def test_the_best_few_lines_have_colours_and_the_rest_are_grey(tmp_path):
    methods = [f"m{i}" for i in range(NUM_SHOWN + 3)]
    cells = [cell(m, s, 0.5, 1e9) for m in methods for s in SPARSITIES]
    ranks = {m: i for i, m in enumerate(methods)}
    made = build(tmp_path, methods=methods, cells=cells, mean_ranks=ranks)
    plot = lines_plot(collect_comparison(made))
    grey = [t for t in plot.data if t["line"]["color"] == "@faint"]
    assert len(grey) == 3 and [t["showlegend"] for t in grey] == [True, False, False]
    assert grey[0]["name"] == "3 others" and plot.num_legend == NUM_SHOWN + 1


def test_the_frontier_is_what_nothing_cheaper_equals(data):
    cells = [data.cell(m, 0.9) for m in ROBUST]
    assert [c.method for c in frontier(cells)] == ["<b>set", "rigl"]
    first, second = cost_plots(data)
    assert first.caption.endswith("1 <b>set, 2 rigl.") and second.caption.endswith("2 rigl.")


def test_reasons_are_said_once(data):
    assert reasons_of(data) == [
        "hydra at 99.0\xa0%: keeps more weights than asked for",
        "slimming at 90.0\xa0%, 99.0\xa0%: no batch normalisation",
    ]


@pytest.mark.parametrize("text", ["", "{", "[]", '"a"'])
def test_a_file_without_a_comparison_is_refused(tmp_path, text):
    (tmp_path / "compare.json").write_text(text)
    with pytest.raises(UserError, match="holds no comparison"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    "key", ["cells", "columns", "mean_ranks", "methods", "sparsities", "seeds"]
)
@pytest.mark.parametrize("value", [None, 3, "x", [None, 1, {}], {"a": "b"}])
def test_a_malformed_part_is_left_out(tmp_path, key, value):
    assert write_report(build(tmp_path, **{key: value})).stat().st_size > 10_000
