"""The page of an evaluation whose files are hostile, malformed, damaged or gone."""

import json
from pathlib import Path

import pytest
from report_sample import write_json
from report_sample_evaluation import (
    arrays,
    attack_rows,
    flips,
    record,
    security_curve,
    transfer,
    write_evaluation,
)
from report_sample_page import Page

from wiry.core.errors import UserError
from wiry.report.page import write_report

HOSTILE = '</script><img src=x onerror="alert(1)"><b>&amp;'


@pytest.fixture
def root(tmp_path) -> Path:
    return write_evaluation(tmp_path / "evaluation-outside-net-0a1b2c3d")


def test_hostile_text_stays_text_everywhere(tmp_path):
    def build(name: str, word: str) -> Page:
        finding = {"check": word, "severity": word, "message": word, "evidence": {word: word}}
        curve = security_curve()["curves"][0] | {"name": word, "x_label": word, "y_label": word}
        measure = security_curve(curves=[curve], remark=word, values={word: word, "a": [word]})
        other = {"measure": word, "spec": {"name": word, word: word}, "remark": word}
        rows = [row | {"attack": f"{word}({word})"} for row in attack_rows(0.9)]
        root = write_evaluation(
            tmp_path / name,
            findings=[finding],
            checks=[word],
            measures=[measure, other | {"curves": [curve | {"x_label": "x"}], "values": {}}],
            attacks=rows,
            protocol=word,
            certified={"method": word, "num": 3},
            class_names=[word] * 10,
            norm=word,
            cost={"layers": [{"name": word, "density": 0.5, "kept": 1, "entries": 2}]},
        )
        write_json(root / "flips.json", flips() | {"per_class": []})
        write_json(root / "transfer.json", transfer() | {"names": [word, f"{word}2"]})
        write_json(root / "card.json", {word: word})
        target = {"dataset": word, "network": word, word: {word: [word]}, "remarks": [word]}
        write_json(root / "target.json", target)
        return Page(write_report(root))

    page, calm = build("hostile", HOSTILE), build("calm", "calm")
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in calm.tags]
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert HOSTILE in page.text
    assert len(page.charts) == len(calm.charts) >= 6
    assert "<img" not in json.dumps(page.charts)


BROKEN = [None, 3, "x", [None, 1, {}, [], "y"], {"a": "b"}, [{"x": [1, None], "y": "z"}]]


@pytest.mark.parametrize("value", BROKEN, ids=repr)
@pytest.mark.parametrize("key", sorted(set(record()) - {"clean_accuracy", "num_samples"}))
def test_a_malformed_part_of_a_record_does_not_stop_the_page(tmp_path, key, value):
    root = write_evaluation(tmp_path, images={}, **{key: value})
    assert write_report(root).stat().st_size > 10_000


@pytest.mark.parametrize("value", BROKEN, ids=repr)
@pytest.mark.parametrize("key", sorted(security_curve()))
def test_a_malformed_measure_does_not_stop_the_page(tmp_path, key, value):
    root = write_evaluation(tmp_path, measures=[security_curve(**{key: value})])
    assert write_report(root).stat().st_size > 10_000


@pytest.mark.parametrize("value", BROKEN, ids=repr)
@pytest.mark.parametrize("name", ["flips", "transfer"])
def test_malformed_files_beside_it_are_left_out(root, name, value):
    whole = flips() if name == "flips" else transfer()
    for key in whole:
        write_json(root / f"{name}.json", whole | {key: value})
        assert write_report(root).stat().st_size > 10_000
    (root / f"{name}.json").write_text("{")
    assert f"{name}.json: not readable" in Page(write_report(root)).text


@pytest.mark.parametrize("value", BROKEN, ids=repr)
@pytest.mark.parametrize("key", ["dataset", "remarks", "network"])
def test_a_malformed_target_does_not_stop_the_page(root, key, value):
    write_json(root / "target.json", {key: value})
    assert write_report(root).stat().st_size > 10_000


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"num_samples": 3}'])
def test_a_record_that_is_none_is_refused_with_its_name(root, text):
    (root / "evaluation.json").write_text(text)
    with pytest.raises(UserError, match=r"evaluation\.json' holds no evaluation"):
        write_report(root)


def test_several_evaluations_in_one_folder_are_refused(root):
    write_evaluation(root, "other")
    with pytest.raises(UserError, match=r"2 evaluations \(evaluation\.json, other\.json\)"):
        write_report(root)


@pytest.mark.parametrize("harm", ["missing", "cut", "shape"])
def test_without_readable_images_the_page_says_so_first(root, harm):
    path = root / "evaluation.npz"
    if harm == "missing":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    else:
        images = arrays()
        write_evaluation(root, images=images | {"example_label": images["example_label"][:2]})
    text = Page(write_report(root)).text
    note = {"missing": "missing, so", "cut": "not readable", "shape": "an unknown shape"}[harm]
    assert note in text[: text.index("outside-net:")]
