"""What an objective trains against, defaults included, and changing it."""

import pytest

from wiry.core.registry import registry
from wiry.sweep.settings import search_settings
from wiry.sweep.threat import against, threat_of


@pytest.mark.parametrize("name", ["adversarial", "trades", "mart", "free"])
def test_a_default_budget_is_seen_and_changed(name):
    objective = registry("objective").normalize(name)
    assert threat_of(objective).eps == pytest.approx(8 / 255)
    assert threat_of(against(objective, 0.15, None)).eps == 0.15


def test_a_changed_budget_keeps_the_rest_of_the_attack():
    attack = threat_of(against({"name": "trades"}, 0.15, None)).attack
    assert (attack.loss, attack.random_start) == ("kl", False)


def test_an_explicit_step_grows_with_eps():
    objective = {"name": "adversarial", "attack": {"name": "pgd", "eps": 0.1, "step_size": 0.02}}
    assert threat_of(against(objective, 0.2, None)).attack.step_size == pytest.approx(0.04)


def test_natural_training_has_no_budget():
    assert threat_of({"name": "natural"}).eps is None


@pytest.mark.parametrize("name", ["trades", "free"])
def test_a_search_trains_and_judges_with_the_eps_asked_for(name, tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(
        f"name: r\ndata: digits\nmodel: mlp\nstages: [{{name: dense, objective: {name}}}]\n"
    )
    settings = search_settings(path, data=None, model=None, eps=0.15, norm=None, overrides=[])
    assert threat_of(settings.recipe.stages[0].objective).eps == settings.eps == 0.15
    assert {attack["eps"] for attack in settings.judge} == {0.15}
