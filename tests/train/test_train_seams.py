"""What the loop offers beside the hooks: a teacher, measurements, averages, progress in batches."""

import dataclasses

import pytest
import torch
from tests.train.tiny import tiny_recipe

from wiry.core.errors import UserError
from wiry.core.recipe import stage_identities
from wiry.sparsify.base import Sparsifier
from wiry.train.fit import fit
from wiry.train.prepare import dataset_of, prepare
from wiry.train.stages import Run, train


def training_of(tmp_path, **changes):
    run = Run.of(tiny_recipe(**changes), tmp_path)
    return prepare(run, run.stages[0], dataset_of(run.recipe), "cpu")


def test_batches_carry_the_share_of_the_stage_that_is_done(tmp_path):
    training = training_of(tmp_path, epochs=2)
    seen = []

    class Watched:
        replays = 1

        def __call__(self, forward, model, batch, generator):
            seen.append(batch.progress)
            return inner(forward, model, batch, generator)

    inner, training.objective = training.objective, Watched()
    fit(training)
    assert seen == pytest.approx([n / training.num_batches for n in range(training.num_batches)])


def test_a_measurement_reaches_the_sparsifier(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Listens(Sparsifier):
        def measured(self, model, state, row):
            state.tensors[f"seen/{row['step']}"] = torch.tensor(row["validation_loss"])

    training = training_of(tmp_path, epochs=1)
    training.sparsifier = Listens()
    last = training.num_batches

    def measure(t):
        if t.progress.num_batches == last:
            return {"step": t.state.step, "validation_loss": 0.25}
        return None

    fit(training, (measure,))
    assert {n: float(v) for n, v in training.state.tensors.items()} == {f"seen/{last}": 0.25}


STAGES = [{"name": "dense", "epochs": 0}, {"name": "small", "epochs": 0, "teacher": "dense"}]


def test_a_teacher_for_an_objective_without_one_is_refused(tmp_path):
    with pytest.raises(UserError, match="'natural' does not learn from one"):
        train(tiny_recipe(stages=STAGES), tmp_path)


def test_a_teacher_must_be_an_earlier_stage():
    with pytest.raises(UserError, match=r"teacher refers to 'densse'.*dense"):
        tiny_recipe(stages=[STAGES[0], STAGES[1] | {"teacher": "densse"}])


def test_a_stage_depends_on_its_teacher():
    def identity(epochs):
        recipe = tiny_recipe(stages=[STAGES[0] | {"epochs": epochs}, STAGES[1]])
        return stage_identities(recipe, recipe.stages)["small"]

    assert identity(1) != identity(2)
