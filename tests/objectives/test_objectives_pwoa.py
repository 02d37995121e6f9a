"""PwoA's loss against its parts, and HSIC where its value is known."""

import pytest
import torch
from torch import nn, tensor

from wiry.core.batch import Batch
from wiry.core.errors import UserError
from wiry.core.registry import registry
from wiry.core.rng import stream
from wiry.objectives.pwoa import Pwoa, features, gaussian_kernel, hsic, normalised_hsic


def network(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64, 8),
            nn.ReLU(),
            nn.Linear(8, 3),
        )


def batch(num=12):
    x = torch.rand(num, 1, 6, 6, generator=stream(0, "x"))
    return Batch(x, torch.arange(num) % 3, torch.arange(num))


def taught(**fields):
    return Pwoa(**fields).with_teacher(network(1).eval().requires_grad_(False))


def test_the_kernel_of_two_points_written_out():
    kernel = gaussian_kernel(tensor([[0.0, 0.0], [3.0, 4.0]]), sigma=5.0)
    away = tensor(-25 / (2 * 25 * 2)).exp()
    assert torch.allclose(kernel, torch.stack([tensor([1.0, away]), tensor([away, 1.0])]))


def test_hsic_of_two_points_written_out():
    """Centred, [[1, a], [a, 1]] is (1 - a)/2 [[1, -1], [-1, 1]]; divided by (2 - 1)^2."""
    first, second = (tensor([[1.0, a], [a, 1.0]]) for a in (0.2, 0.6))
    assert float(hsic(first, second)) == pytest.approx(0.8 * 0.4)


def test_hsic_of_independent_variables_is_zero_and_of_equal_ones_is_largest():
    """All pairs of two values and three values, once each: independent to the last digit."""
    x = tensor([[0.0], [0.0], [0.0], [1.0], [1.0], [1.0]])
    y = tensor([[0.0], [2.0], [5.0], [0.0], [2.0], [5.0]])
    of_x, of_y = gaussian_kernel(x.double(), 1.0), gaussian_kernel(y.double(), 1.0)
    for estimate in (hsic, normalised_hsic):
        assert float(estimate(of_x, of_y)) == pytest.approx(0.0, abs=1e-9)
        assert float(estimate(of_x, of_x)) > 0.05 and float(estimate(of_y, of_y)) > 0.05
        assert float(estimate(of_x, torch.ones(6, 6).double())) == pytest.approx(0.0, abs=1e-9)


def test_hsic_equals_the_definition_with_traces():
    x, y = (torch.randn(7, d, generator=stream(d)).double() for d in (2, 3))
    k, other = gaussian_kernel(x, 1.0), gaussian_kernel(y, 1.0)
    h = torch.eye(7).double() - 1 / 7
    assert torch.allclose(hsic(k, other), (k @ h @ other @ h).trace() / 36)
    ridge = 7e-5 * torch.eye(7).double()
    r_k, r_other = (m @ h @ (m @ h + ridge).inverse() for m in (k, other))
    assert torch.allclose(normalised_hsic(k, other), (r_k @ r_other).trace())


def test_the_normalised_estimate_counts_what_two_labellings_share():
    """Equal labellings into c classes share c - 1 directions."""
    labels = nn.functional.one_hot(torch.arange(12) % 4, 4).double()
    kernel = labels @ labels.T
    assert float(normalised_hsic(kernel, kernel)) == pytest.approx(3.0, rel=1e-3)
    assert float(normalised_hsic(5 * kernel, kernel)) == pytest.approx(3.0, rel=1e-3)


def test_features_are_what_every_layer_but_the_first_reads_and_hooks_go_away():
    model = network()
    with features(model) as hidden:
        model(batch().x)
    assert [tuple(h.shape) for h in hidden] == [(12, 64), (12, 8)]
    model(batch().x)
    assert len(hidden) == 2
    assert not any(m._forward_pre_hooks for m in model.modules())
    model = registry("model").build(
        {"name": "resnet18", "width": 2}, input_shape=(1, 8, 8), num_classes=3
    )
    with features(model) as hidden:  # a block's input counts once, though its shortcut reads it
        model(batch(4).x.repeat(1, 1, 2, 2)[..., :8, :8])
    assert len(hidden) == 17


@pytest.mark.parametrize("estimator", ["normalised", "biased"])
def test_the_loss_is_the_sum_of_its_terms(estimator):
    model, images = network(), batch()
    objective = taught(temperature=4.0, alpha=3.0, lx=0.5, ly=0.25, sigma=2.0, estimator=estimator)
    loss = objective(model, model, images, stream(0))
    said, asked = (net(images.x) / 4 for net in (model, network(1)))
    expected = 3 * 16 * (asked.softmax(1) * (asked.log_softmax(1) - said.log_softmax(1))).sum(1)
    expected = expected.mean()
    first = model[:3](images.x)
    second = model[3:5](first)
    estimate = {"normalised": normalised_hsic, "biased": hsic}[estimator]
    of_y = (images.y[:, None] == images.y).float()
    of_x = gaussian_kernel(images.x.flatten(1), 2.0)
    for z in (first, second):
        of_z = gaussian_kernel(z, 2.0)
        expected = expected + 0.5 * estimate(of_x, of_z) - 0.25 * estimate(of_y, of_z)
    assert torch.allclose(loss.total, expected, rtol=1e-4)
    assert set(loss.metrics) == {"accuracy"}


def test_only_clean_images_are_looked_at_and_the_teacher_gets_no_gradient():
    model, teacher = network(), network(1).eval()
    seen = []
    handle = model.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    images = batch()
    Pwoa().with_teacher(teacher)(model, model, images, stream(0)).total.backward()
    handle.remove()
    assert len(seen) == 1 and seen[0] is images.x
    assert all(p.grad is not None for p in model.parameters())
    assert all(p.grad is None for p in teacher.parameters())


def test_the_dependence_terms_pull_features_to_labels_and_away_from_images():
    """Without a teacher's share the loss falls, and with it the dependence on the images."""
    objective, images, model = taught(alpha=0.0, lx=0.05, ly=0.2), batch(24), network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        loss = objective(model, model, images, stream(0)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.05


def test_without_a_teacher_the_recipe_is_told_where_to_name_one():
    with pytest.raises(UserError, match="teacher: STAGE"):
        model = network()
        Pwoa()(model, model, batch(), stream(0))


def test_a_wrong_setting_is_refused_and_defaults_are_the_published_constants():
    with pytest.raises(UserError, match="temperature and sigma"):
        registry("objective").build({"name": "pwoa", "sigma": 0.0})
    constants = Pwoa()
    assert (constants.temperature, constants.alpha, constants.sigma) == (30, 10, 5)
    assert (constants.lx, constants.ly) == (2e-5, 1e-4)
