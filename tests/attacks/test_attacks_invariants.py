"""What holds for every attack there is, present and to come."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from wiry.attacks.presets import autoattack, screen, training
from wiry.attacks.projections import lengths
from wiry.core.errors import UserError
from wiry.core.registry import registry
from wiry.core.rng import stream

BALLS = {"linf": 0.1, "l2": 0.5, "l1": 2.0}
SHAPE = (2, 6, 6)


def small(attack):
    """The attack with a search short enough for a test."""
    fields = {f.name for f in dataclasses.fields(attack)}
    short = {"steps": 6, "num_queries": 30, "num_targets": 2}
    return dataclasses.replace(attack, **{k: v for k, v in short.items() if k in fields})


def every_attack():
    """Every registered attack in every norm it takes, and variants with code of their own."""
    found = []
    for attack in map(small, registry("attack").defaults()):
        for norm, eps in BALLS.items():
            try:
                found.append(dataclasses.replace(attack, eps=eps, norm=norm))
            except ValueError:
                continue
    build = registry("attack").build
    for norm, eps in BALLS.items():
        ball = {"name": "pgd", "eps": eps, "norm": norm, "steps": 4}
        found += [
            build({**ball, "restarts": 3}),
            build({**ball, "restarts": 3, "drop_fooled": True, "loss": "dlr"}),
            build({**ball, "loss": "kl"}),
            build({**ball, "loss": "kl", "random_start": False}),
            build({**ball, "drop_fooled": True, "loss": "margin", "label": "predicted"}),
            build({"name": "fgsm", "eps": eps, "norm": norm, "random_start": True}),
        ]
        targeted = {"name": "apgd", "steps": 6, "loss": "targeted-dlr", "restarts": 2}
        found.append(build({**targeted, "eps": eps, "norm": norm}))
    return found


ATTACKS = every_attack()
over_attacks = pytest.mark.parametrize("attack", ATTACKS, ids=repr)


def network(num_classes: int = 4) -> nn.Module:
    """A small network with batch normalisation, in training mode, its statistics not trivial."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(2, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(216, num_classes),
        )
        model(torch.rand(32, *SHAPE))
    return model.train()


def batch(n: int = 12, num_classes: int = 4) -> tuple[Tensor, Tensor]:
    """Images with pixels at the bounds too, and labels of which most are the model's."""
    generator = stream(2, "batch")
    x = (torch.rand(n, *SHAPE, generator=generator) * 1.4 - 0.2).clamp(0, 1)
    y = network(num_classes).eval()(x).argmax(1) if n else torch.zeros(0, dtype=torch.int64)
    y[: n // 4] = (y[: n // 4] + 1) % num_classes
    return x, y


class Failing(nn.Module):
    """A network that raises at one of its calls, or at none, and counts them."""

    def __init__(self, failing_call: int = 0) -> None:
        super().__init__()
        self.inner, self.num_calls, self.failing_call = network(), 0, failing_call

    def forward(self, x: Tensor) -> Tensor:
        self.num_calls += 1
        if self.num_calls == self.failing_call:
            raise RuntimeError("this call fails")
        return self.inner(x)


def photograph(model: nn.Module) -> list:
    """Everything of a model that an attack might change."""
    return [
        *[module.training for module in model.modules()],
        *[getattr(module, "track_running_stats", None) for module in model.modules()],
        *[p.requires_grad for p in model.parameters()],
        *[p.grad for p in model.parameters()],
        {name: value.tolist() for name, value in model.state_dict().items()},
    ]


@over_attacks
def test_result_is_inside_ball_and_box_and_detached(attack):
    x, y = batch()
    before = x.clone()
    found = attack(network(), x, y, stream(0, "attack"))
    assert found.shape == x.shape and found.dtype == x.dtype
    assert not found.requires_grad
    assert found.min() >= 0 and found.max() <= 1
    assert lengths(found.double() - x, attack.norm).max() <= attack.eps + 1e-6
    assert torch.equal(x, before)
    assert not torch.equal(found, x)


@over_attacks
def test_same_seed_gives_the_same_images_and_the_global_generator_is_left_alone(attack):
    x, y = batch()
    state = torch.get_rng_state()
    one = attack(network(), x, y, stream(0, "attack"))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(one, attack(network(), x, y, stream(0, "attack")))


@over_attacks
def test_another_seed_gives_other_images_where_there_is_a_draw(attack):
    x, y = batch()
    generator = stream(0, "attack")
    one = attack(network(), x, y, generator)
    draws = not torch.equal(generator.get_state(), stream(0, "attack").get_state())
    other = attack(network(), x, y, stream(1, "attack"))
    assert torch.equal(one, other) != draws
    if not getattr(attack, "random_start", True) and getattr(attack, "loss", "") != "kl":
        assert not draws


@over_attacks
def test_model_is_left_as_found(attack):
    model = network()
    model[0].bias.requires_grad_(False)
    model[1].eval()
    before = photograph(model)
    attack(model, *batch(), stream(0, "attack"))
    assert photograph(model) == before


@over_attacks
def test_model_is_left_as_found_after_an_error(attack):
    sound = Failing()
    attack(sound, *batch(), stream(0, "attack"))
    model = Failing(min(2, sound.num_calls))
    model.inner[0].bias.requires_grad_(False)
    model.inner[1].eval()
    before = photograph(model)
    with pytest.raises(RuntimeError, match="this call fails"):
        attack(model, *batch(), stream(0, "attack"))
    assert photograph(model) == before


@pytest.mark.parametrize("mode", ["eval", "train", "as-is"])
@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_mode_is_that_of_the_layers_during_the_attack(name, mode):
    seen = []
    model = network()
    model[1].eval()
    hook = model.register_forward_hook(lambda *_: seen.append([m.training for m in model]))
    registry("attack").build({"name": name, "mode": mode})(model, *batch(), stream(0, "attack"))
    hook.remove()
    expected = {"eval": [False] * 5, "train": [True] * 5, "as-is": [True, False, *[True] * 3]}
    assert seen and all(modes == expected[mode] for modes in seen)


@pytest.mark.parametrize("mode", ["train", "as-is"])
def test_an_attack_in_training_mode_leaves_running_statistics_alone(mode):
    model = network()
    before = photograph(model)
    attack = registry("attack").build({"name": "pgd", "mode": mode, "restarts": 2})
    attack(model, *batch(), stream(0, "attack"))
    assert photograph(model) == before


@over_attacks
def test_no_image_depends_on_the_labels_or_pixels_of_the_others(attack):
    """The first images stay and the last are replaced; draws are those of the whole batch."""
    x, y = batch()
    other_x, other_y = x.clone(), y.clone()
    other_x[6:], other_y[6:] = 1 - x[6:], (y[6:] + 1) % 4
    one = attack(network(), x, y, stream(0, "attack"))
    other = attack(network(), other_x, other_y, stream(0, "attack"))
    torch.testing.assert_close(one[:6], other[:6], rtol=0, atol=1e-5)
    assert not torch.equal(one[6:], other[6:])


@over_attacks
def test_radius_zero_gives_the_images_back(attack):
    x, y = batch()
    found = dataclasses.replace(attack, eps=0.0)(network(), x, y, stream(0, "attack"))
    assert torch.equal(found, x) and found is not x


@over_attacks
def test_an_empty_batch_gives_an_empty_batch(attack):
    x, y = batch(0)
    assert attack(network(), x, y, stream(0, "attack")).shape == (0, *SHAPE)


@over_attacks
@pytest.mark.parametrize("num_classes", [2, 3])
def test_two_and_three_classes_are_enough(attack, num_classes):
    x, y = batch(8, num_classes)
    found = attack(network(num_classes), x, y, stream(0, "attack"))
    assert bool(torch.isfinite(found).all())
    assert lengths(found.double() - x, attack.norm).max() <= attack.eps + 1e-6


@over_attacks
def test_attacks_work_where_gradients_are_switched_off(attack):
    x, y = batch(4)
    with torch.no_grad():
        found = attack(network(), x, y, stream(0, "attack"))
    assert torch.equal(found, attack(network(), x, y, stream(0, "attack")))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "pgd", "norm": "l3"}, "'linf', 'l2' or 'l1', got 'l3'"),
        ({"name": "pgd", "eps": 8}, "Did you mean 8/255"),
        ({"name": "fgsm", "eps": -0.1}, "at least 0, got -0.1"),
        ({"name": "pgd", "steps": 0}, "steps must be at least 1, got 0"),
        ({"name": "pgd", "step_size": 0}, "step_size must be positive"),
        ({"name": "pgd", "restarts": 2, "random_start": False}, "repeats the same search"),
        ({"name": "pgd", "drop_fooled": True, "mode": "train"}, "needs mode 'eval'"),
        ({"name": "square", "p_init": 0}, "p_init must be above 0"),
    ],
)
def test_a_field_that_makes_no_sense_is_refused_with_the_reason(spec, message):
    with pytest.raises(UserError, match=message):
        registry("attack").build(spec)


@pytest.mark.parametrize("norm", BALLS)
def test_presets_are_registered_attacks_of_the_ball_that_was_asked_for(norm):
    attacks = (*autoattack(BALLS[norm], norm), *screen(BALLS[norm], norm), training(0.1, norm))
    for attack in attacks:
        spec = registry("attack").normalize(attack)
        assert registry("attack").build(spec) == attack
        assert attack.norm == norm
    assert len({repr(attack) for attack in autoattack(BALLS[norm], norm)}) > 1
    assert training(0.1, norm).resolved_step_size() == pytest.approx(0.025)
