"""Fixtures of the tests of the command line."""

import pytest
from tests.cli.commands import TINY, write
from tests.cli.malformed import Started

from wiry.cli import run
from wiry.core.recipe_file import load_recipe
from wiry.core.run import Run


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A finished run of the tiny recipe, made by `wiry train`: recipe, output folder, run."""
    folder = tmp_path_factory.mktemp("tiny")
    path = write(folder / "tiny.yaml", TINY)
    assert run(["train", str(path), "--out", str(folder / "runs")]) == 0
    return path, folder / "runs", Run.of(load_recipe(path), folder / "runs")


@pytest.fixture(scope="module")
def no_work():
    """Nothing trains, measures or writes a page, and thread counts stay."""

    def start(*arguments, **fields):
        raise Started

    patch = pytest.MonkeyPatch()
    patch.setattr("wiry.sweep.search.Search.__init__", start)
    patch.setattr("wiry.core.run.Run.lock", start)
    patch.setattr("wiry.sweep.evaluate_command.run_evaluation", start)
    patch.setattr("torch.set_num_threads", lambda number: None)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")
