"""The measures "lipschitz" and "linear": closed forms, and the networks they refuse."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from wiry.core.errors import UserError
from wiry.core.rng import stream
from wiry.evaluation.examine import measured
from wiry.evaluation.linear import r_2, r_inf
from wiry.evaluation.measures.linear import Linear
from wiry.evaluation.measures.lipschitz import Lipschitz
from wiry.evaluation.subject import Measured, Subject
from wiry.models.base import build_model


def subject(spec, num_classes: int, **changes) -> Subject:
    size = (1, 8, 8)
    model = build_model(
        spec,
        input_shape=size,
        num_classes=num_classes,
        seed=1,
        statistics=(torch.tensor([0.4]), torch.tensor([0.3])),
    ).eval()
    x = torch.rand(40, *size, generator=stream(0, "images"))
    y = torch.randint(0, num_classes, (40,), generator=stream(0, "labels"))
    return ask(model, x, y, num_classes, **changes)


def ask(model: nn.Module, x: Tensor, y: Tensor, num_classes: int, **changes) -> Subject:
    settings = {"eps": 0.02, "norm": "linf", "batch_size": 7, **changes}
    names = tuple(map(str, range(num_classes)))
    return Subject(model, x, y, model(x).argmax(1) == y, num_classes, names, **settings)


def found(one: Subject, measure) -> Measured:
    return measured(one, [measure])[0][1]


LINEAR = {"name": "mlp", "widths": []}


def test_two_classes_have_the_r_2_and_r_inf_of_the_paper():
    one = subject(LINEAR, 2)
    head = one.model.get_submodule("head").requires_grad_(False)
    weight = (head.weight[1] - head.weight[0]) / 0.3
    bias = float(head.bias[1] - head.bias[0]) - 0.4 * float(weight.sum())
    x, signs = one.x.flatten(1), one.y * 2.0 - 1
    values = found(one, Linear()).values
    assert 0 < values["r_inf"] < 1
    assert values["r_2"] == pytest.approx(r_2(weight, bias, x, signs), rel=1e-4)
    assert values["r_inf"] == pytest.approx(r_inf(weight, bias, x, signs, eps=0.02))
    assert found(one, Linear(eps=0.0)).values["r_inf"] == float(one.clean_correct.double().mean())


def test_many_classes_have_the_distance_to_the_nearest_one():
    """Moving an image by its distance, and no less, puts it on the boundary."""
    one = subject(LINEAR, 5, norm="l2")
    said = found(one, Linear())
    assert said.values["r_inf"] is None  # eps of the evaluation is one in l2
    distance = torch.as_tensor(said.arrays["distance_l2"])
    assert (distance[~one.clean_correct] == 0).all() and (distance[one.clean_correct] > 0).all()
    weight = one.model.get_parameter("head.weight").detach() / 0.3
    logits = one.model(one.x).detach()
    for i in one.clean_correct.nonzero().flatten().tolist():
        k = int(logits[i].argmax())
        others = [j for j in range(5) if j != k]
        exact = min(float((logits[i, k] - logits[i, j]) / (weight[k] - weight[j]).norm())
                    for j in others)  # fmt: skip
        assert float(distance[i]) == pytest.approx(exact, rel=1e-3)


def test_convolutions_and_means_are_linear_and_a_rectifier_is_not():
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(27, 3)
    ).eval()
    x, y = torch.rand(9, 1, 8, 8, generator=stream(0, "x")), torch.zeros(9, dtype=torch.long)
    found(ask(model, x, y, 3), Linear())
    with pytest.raises(UserError, match=r"step 'hidden\.1' is not linear"):
        found(subject({"name": "mlp", "widths": [8]}, 3), Linear())


def test_lipschitz_values_are_ordered_and_do_not_depend_on_batches():
    one = subject({"name": "mlp", "widths": [20]}, 5)
    said = found(one, Lipschitz())
    arrays = {name: torch.as_tensor(values) for name, values in said.arrays.items()}
    assert arrays["index"].tolist() == one.clean_correct.nonzero().flatten().tolist()
    assert (arrays["lipschitz"] <= arrays["lipschitz_bound"]).all()
    assert (arrays["estimated_distance"] <= 0.02).all()  # the ball that was looked at
    assert said.values["lipschitz"] == pytest.approx(float(arrays["lipschitz"].mean()))
    assert said.values["condition"] > 1 and "proved distances hold" in said.remark
    other = found(dataclasses.replace(one, batch_size=100), Lipschitz())
    torch.testing.assert_close(torch.as_tensor(other.arrays["lipschitz"]), arrays["lipschitz"])


def test_nothing_is_proved_for_a_convolutional_network_and_that_is_said():
    said = found(subject({"name": "cnn-small", "width": 4}, 3), Lipschitz(num_points=2))
    assert said.values["proved_distance"] is None and said.values["lipschitz"] > 0
    assert "nothing is proved: the product of norms" in said.remark


def test_a_ball_of_another_norm_needs_a_radius():
    one = subject(LINEAR, 3)
    with pytest.raises(UserError, match="give its fields `norm` and `radius`"):
        found(one, Lipschitz(norm="l2"))
    assert found(one, Lipschitz(norm="l2", radius=0.5)).values["norm"] == "l2"
    with pytest.raises(UserError, match="in l1"):
        found(subject(LINEAR, 3, norm="l1"), Lipschitz())


def test_an_evaluation_without_a_right_image_has_no_constant():
    one = subject(LINEAR, 3)
    wrong = ask(one.model, one.x, (one.model(one.x).argmax(1) + 1) % 3, 3)
    assert found(wrong, Lipschitz()).values == {"lipschitz": None}
    assert found(wrong, Linear()).values["r_2"] == 0
