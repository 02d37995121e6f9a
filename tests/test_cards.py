"""The method cards are what their generator makes of the code, and say what a card has to say."""

import importlib
import inspect
import json
import sys
from pathlib import Path

import pytest

from wiry.core.registry import registry

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def maker():
    sys.path.insert(0, str(DOCS))  # the way `python docs/make_methods.py` finds its other half
    try:
        yield importlib.import_module("make_methods")
    finally:
        sys.path.remove(str(DOCS))


def test_the_committed_pages_are_what_the_generator_makes(maker):
    made = maker.pages()
    stale = [p.name for p, text in made.items() if not p.exists() or p.read_text("utf-8") != text]
    assert not stale, "run `python docs/make_methods.py`"
    assert set((DOCS / "methods").iterdir()) == {p for p in made if p.parent == DOCS / "methods"}


def test_every_sparsifier_says_when_to_use_it_its_source_and_its_published_number(maker):
    for name in registry("sparsifier").names():
        found = maker.sections(inspect.getdoc(registry("sparsifier").get(name)))
        assert {"Use", "Source", "Published"} <= set(found), name


def test_every_field_of_a_sparsifier_is_explained(maker):
    for name in registry("sparsifier").names():
        documented = maker.field_docs(registry("sparsifier").get(name))
        fields = set(registry("sparsifier").signature(name))
        assert fields - set(documented) <= {"num_updates", "allocation", "score", "schedule"}, name


def test_a_docstring_is_split_at_its_labels(maker):
    text = "Prune.\n\nMore\nof it.\n\nUse: always. Source: A 2020,\neq. 1.\n\nArgs:\n    x"
    assert maker.sections(text) == {
        "": "Prune.\n\nMore of it.",
        "Use": "always.",
        "Source": "A 2020, eq. 1.",
    }


def test_arguments_of_a_method_are_read(maker):
    argument_docs = sys.modules["docstrings"].argument_docs
    arguments = "    share: of all\n        epochs.\n    rate: learning."
    text = f"Do.\n\nArgs:\n{arguments}\n\nRaises:\n    X: y."
    assert argument_docs(text) == {"share": "Of all epochs.", "rate": "Learning."}


def test_our_number_comes_from_the_committed_comparison(maker, tmp_path, monkeypatch):
    monkeypatch.setattr(maker, "RESULTS", tmp_path / "methods.json")
    assert maker.our_number("rigl") == "Not measured yet."
    cell = {"num_seeds": 3, "ranked": True, "reasons": [], "sparsity": 0.9, "density": 0.1}
    cell |= {"robust_accuracy": 0.5, "robust_deviation": 0.01, "robust_interval": [0.4, 0.6]}
    cell |= {"clean_accuracy": 0.9, "clean_deviation": 0.02, "flops_sparse": 2e9}
    refused = {"method": "rigl", "num_seeds": 0, "sparsity": 0.99, "reasons": ["too sparse"]}
    cells = [{"method": "dense"} | cell, {"method": "rigl"} | cell, refused]
    data = {"cells": cells, "mean_ranks": {"rigl": 2.5}, "methods": ["rigl", "set"], "eps": 0.15}
    data |= {"model": "mlp", "data": "digits", "norm": "linf", "seeds": [0, 1, 2]}
    (tmp_path / "methods.json").write_text(json.dumps(data))
    text = maker.our_number("rigl")
    assert "| 90.0 % | 10.0 % | 50.0 ± 1.0 % | 40.0 to 60.0 | 90.0 ± 2.0 % | 2 GFLOP |" in text
    assert "| 99.0 % | - | too sparse |" in text and "Mean rank 2.5 of 2." in text
    assert maker.our_number("fixed").startswith("Not in the comparison")
