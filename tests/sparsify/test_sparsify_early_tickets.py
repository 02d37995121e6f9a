"""Robust Bird and boosting tickets: when a ticket is drawn, and how its stages are laid out."""

import pytest
import torch
from tests.sparsify.by_hand import begin, step
from tests.train.tiny import tiny_recipe

from wiry.core.mask import density
from wiry.core.recipe import Recipe, Stage
from wiry.core.registry import registry
from wiry.core.tensors import load_mask, load_tensors
from wiry.sparsify.plan import plan
from wiry.sparsify.robust_bird import RobustBird
from wiry.train.stages import train


def test_robust_bird_draws_the_ticket_at_the_first_check_that_sees_four_equal_masks():
    method = RobustBird(sparsity=0.8, num_checks=10)
    model, state = begin(method, total_steps=20)
    for now in range(20):
        assert (density(model, state.mask) == 0.2) == (now >= 10), "checks at steps 2, 4, ... 10"
        step(method, model, state, shift=0.0)
    assert int(state.tensors["drawn_at"]) == 10 and list(state.tensors) == ["drawn_at"]


def test_robust_bird_waits_until_weights_settle_and_then_keeps_its_mask():
    method = RobustBird(sparsity=0.8, num_checks=30)
    model, state = begin(method, total_steps=30)
    ticket = None
    for now in range(30):
        step(method, model, state, shift=2.0**now if now < 12 else 0.001)
        if "drawn_at" in state.tensors:
            ticket = ticket or state.mask
            assert state.mask.equal(ticket)
            assert not model.get_parameter("0.weight").detach()[~ticket["0.weight"]].any()
    # the masks of steps 12 to 15 are the first four that are alike (the twelfth step moves last)
    assert int(state.tensors["drawn_at"]) == 16


def test_robust_bird_draws_at_the_last_step_what_never_settles():
    method = RobustBird(sparsity=0.8)
    model, state = begin(method, total_steps=15)
    for _ in range(15):
        assert density(model, state.mask) == 1.0
        step(method, model, state, shift=5.0)
    assert int(state.tensors["drawn_at"]) == 15
    assert density(model, state.mask) == 0.2


DENSE = Stage(
    name="dense",
    epochs=6,
    objective={"name": "trades", "attack": {"name": "pgd", "eps": 0.1, "norm": "l2"}},
    optimizer={"name": "sgd", "lr": 0.2},
)


def test_robust_bird_searches_naturally_and_trains_the_ticket_from_its_initial_weights():
    search, ticket = plan("robust-bird", [0.5, 0.1], DENSE, 4)
    assert (search.epochs, ticket.epochs) == (2, 8)
    assert search.objective == {"name": "natural"} and ticket.objective == DENSE.objective
    assert search.sparsifier == {"name": "robust-bird"}  # 0.9 is the default
    assert ticket.start.weights == f"{search.name}@0it" and ticket.start.mask == search.name
    assert ticket.sparsifier == {"name": "fixed"}
    robust = {"name": "robust-bird", "robust_search": True}
    search, _ = registry("method").build(robust, path=[0.1], dense=DENSE, epochs=4)
    assert search.objective == DENSE.objective


def test_boosting_ticket_searches_with_one_step_in_the_same_threat_model_at_a_tenth_of_the_rate():
    search, ticket = plan("boosting-ticket", [0.25], DENSE, 4)
    assert (search.epochs, ticket.epochs) == (5, 5)
    attack = {"name": "fgsm", "eps": 0.1, "norm": "l2", "random_start": True}
    assert search.objective == {"name": "adversarial", "attack": attack}
    assert search.optimizer == {"name": "sgd", "lr": pytest.approx(0.02)}
    assert ticket.start.model_dump() == {
        "weights": f"{search.name}@0it",
        "mask": "none",
        "score": search.name,
    }
    assert ticket.objective == DENSE.objective and ticket.optimizer == DENSE.optimizer
    natural, _ = plan(
        "boosting-ticket", [0.25], DENSE.model_copy(update={"objective": {"name": "natural"}}), 4
    )
    assert natural.objective == {"name": "natural"}


@pytest.mark.parametrize("share", [0.0, 1.0, 20])
@pytest.mark.parametrize("name", ["robust-bird", "boosting-ticket"])
def test_a_search_that_takes_all_or_nothing_is_refused(name, share):
    with pytest.raises(ValueError, match="search_share"):
        spec = {"name": name, "search_share": share}
        registry("method").build(spec, path=[0.1], dense=DENSE, epochs=4)


@pytest.mark.parametrize("name", ["robust-bird", "boosting-ticket"])
def test_a_ticket_is_trained_from_the_initial_weights_of_its_search(name, tmp_path):
    recipe = tiny_recipe(epochs=1)
    stages = plan(name, [0.1], recipe.stages[0], 1)
    recipe = Recipe.model_validate(
        {**recipe.model_dump(), "stages": [s.model_dump() for s in stages]}
    )
    run = train(recipe, tmp_path)
    search, ticket = (run.stage_dir(stage) for stage in run.stages)
    initial = load_tensors(search / "kept" / "0it.safetensors")
    first = load_tensors(ticket / "kept" / "0it.safetensors")
    mask = load_mask(ticket / "mask.safetensors")
    assert mask.density() == pytest.approx(0.1, abs=0.001)
    for name, kept in mask.items():
        assert torch.equal(first[name][kept], initial[name][kept])
