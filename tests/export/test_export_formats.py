"""Every format writes files that answer like the network, and nothing else is kept."""

import dataclasses
from typing import ClassVar

import pytest
import torch
from torch import nn

from wiry.attacks.pgd import PGD
from wiry.core.errors import UserError
from wiry.core.mask import Mask
from wiry.core.registry import registry
from wiry.evaluation.examination import evaluate
from wiry.export.artifact import Subject
from wiry.export.straight_through import StraightThrough
from wiry.export.verify import TOLERANCE, Images, verify
from wiry.export.write import Order, card_path, write
from wiry.models.base import build_model

SHAPE = (1, 8, 8)
FORMATS = registry("format").names()
ROUNDED = [(n, d) for n in FORMATS for d in registry("format").build({"name": n}).dtypes]


def needs(name):
    """Skip where the extra of a format is missing."""
    if name in ("onnx", "openvino"):
        for module in ("onnx", "onnxruntime", "onnxscript", name):
            pytest.importorskip(module)


@pytest.fixture(scope="module")
def subject():
    model = build_model({"name": "cnn-small"}, input_shape=SHAPE, num_classes=4, seed=0).eval()
    generator = torch.Generator().manual_seed(1)
    name = next(n for n, p in model.named_parameters() if p.dim() == 4 and p.shape[1] > 1)
    weight = dict(model.named_parameters())[name]
    mask = Mask({name: torch.rand(weight.shape, generator=generator) < 0.2})
    mask.apply_(model)
    model.requires_grad_(False)
    calibration = torch.rand(60, *SHAPE, generator=generator)
    return Subject(model, mask, SHAPE, tuple("abcd"), None, None, calibration)


@pytest.fixture(scope="module")
def images(subject):
    x = torch.rand(24, *SHAPE, generator=torch.Generator().manual_seed(2))
    return Images(x, subject.model(x).argmax(1), (PGD(0.05, steps=3),), 0)


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_answers_like_the_network_for_any_number_of_images(name, subject, images, tmp_path):
    needs(name)
    target = registry("format").build({"name": name})
    target.write(subject, tmp_path / f"net{target.suffix}", None)
    opened, answers = target.open(subject, tmp_path / f"net{target.suffix}")
    assert answers
    for num in (1, 5, 24):
        with torch.no_grad():
            expected, found = subject.model(images.x[:num]), opened(images.x[:num])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "dtype"), ROUNDED)
def test_a_rounded_file_is_near_the_network_and_attacked_itself(
    name, dtype, subject, images, tmp_path
):
    needs(name)
    target = registry("format").build({"name": name})
    order = Order(name, tmp_path / f"net{target.suffix}", dtype)
    found = write(subject, order, images, name="net")["verification"]
    assert TOLERANCE < found["largest_difference"] < 0.2
    assert found["how"].startswith("attacked anew") and "Square" in found["attacks"][-1]
    assert 0 <= found["robust_after"] <= found["clean_after"]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_says_how_it_is_opened_and_what_zeros_are_good_for(name):
    target = registry("format").build({"name": name})
    assert "NAME" in target.loading and target.zeros.endswith(".")
    compile(target.loading, name, "exec")


def test_a_card_stands_beside_the_file(subject, images, tmp_path):
    order = Order("safetensors", tmp_path / "deep" / "net.safetensors")
    card = write(subject, order, images, name="net <b>")
    names = {path.name for path in order.output.parent.iterdir()}
    assert names == {"net.safetensors", "net.safetensors.card.md", "net.safetensors.card.json"}
    assert card["verification"]["clean_before"] == card["verification"]["clean_after"] == 1
    assert card["verification"]["robust_before"] == card["verification"]["robust_after"]
    text = card_path(order.output, ".md").read_text()
    assert "net &lt;b>" in text or "net &lt;b\\>" in text
    assert f"{card['files'][0]['bytes']:,}" in text and "replayed" in text


class Plants:
    """A format that loses something on the way."""

    suffix: ClassVar = ".plant"
    dtypes: ClassVar = ()
    zeros: ClassVar = "Nothing."
    loading: ClassVar = "NAME"

    def __init__(self, change):
        self.change = change

    def write(self, subject, path, dtype):
        path.write_bytes(b"here")

    def open(self, subject, path):
        return self.change(subject.model), "a plant"


class Shifted(nn.Module):
    def __init__(self, network, by):
        super().__init__()
        self.network, self.by = network, by

    def forward(self, x):
        return self.network(x) + self.by


@pytest.mark.parametrize("by", [0.01, float("nan")])
def test_a_file_that_answers_otherwise_is_not_kept(by, subject, images, tmp_path, monkeypatch):
    plant = Plants(lambda model: Shifted(model, torch.tensor([by, 0, 0, 0])))
    monkeypatch.setattr(type(registry("format")), "build", lambda *_: plant)
    with pytest.raises(UserError, match="answers otherwise"):
        write(subject, Order("plant", tmp_path / "net.plant"), images, name="net")
    assert list(tmp_path.iterdir()) == []


def test_a_stop_in_the_middle_leaves_nothing(subject, images, tmp_path, monkeypatch):
    def stop(model):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(registry("format")), "build", lambda *_: Plants(stop))
    with pytest.raises(KeyboardInterrupt):
        write(subject, Order("plant", tmp_path / "net.plant"), images, name="net")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "int3"}, "no --dtype 'int3'; it has: none"),
        ({"output": "net.onnx"}, "ends in .safetensors"),
        ({"output": "there.safetensors"}, "--overwrite replaces it"),
        ({"output": "folder.safetensors"}, "is a folder"),
        ({"format": "safetensor"}, "closest"),
    ],
)
def test_an_order_that_cannot_be_filled_is_refused(change, message, subject, tmp_path):
    (tmp_path / "there.safetensors").write_bytes(b"old")
    (tmp_path / "folder.safetensors").mkdir()
    order = Order("safetensors", tmp_path / change.pop("output", "net.safetensors"))
    with pytest.raises(UserError, match=message):
        write(subject, dataclasses.replace(order, **change), None, name="net")
    assert (tmp_path / "there.safetensors").read_bytes() == b"old"


def test_replayed_images_count_against_the_file():
    """Of ten images the network has eight right; eps 0.12 turns the four nearest to 0.5."""
    weight = torch.tensor([[1.0], [-1.0]])

    def model(x):
        return (x.flatten(1) - 0.5) @ weight.T

    network = nn.Module()
    network.forward = model
    x = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.45, 0.55, 0.6, 0.7, 0.8, 0.9]).view(-1, 1, 1, 1)
    y = (x.flatten() < 0.5).long()
    y[0], y[9] = 1 - y[0], 1 - y[9]
    images = Images(x, y, (PGD(0.12, steps=5),), 0)
    found = verify(network, network, images, is_rounded=False)
    assert found["clean_after"] == pytest.approx(0.8)
    assert found["robust_before"] == found["robust_after"] == pytest.approx(0.4)
    alone = verify(network, network, dataclasses.replace(images, attacks=()), is_rounded=False)
    assert alone["robust_after"] is None and "not attacked" in alone["how"]


def test_straight_through_answers_like_one_network_with_the_slopes_of_another():
    answers, slopes = nn.Linear(3, 2), nn.Linear(3, 2)
    x = torch.rand(4, 3, requires_grad=True)
    network = StraightThrough(lambda x: answers(x).round(decimals=1), slopes)
    logits = network(x)
    torch.testing.assert_close(logits, answers(x).round(decimals=1))
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), x)
    torch.testing.assert_close(gradient, slopes.weight[0].expand(4, 3))
    assert not network(x.detach()).requires_grad


def test_attacks_see_through_rounding(subject, images):
    """A network behind a coarse rounding looks robust to gradients of its own, and is not."""

    class Rounded(nn.Module):
        def forward(self, x):
            return subject.model((x * 20).round() / 20)

    plain = evaluate(Rounded(), images.x, images.y, images.attacks, check=False)
    through = StraightThrough(Rounded(), subject.model)
    found = evaluate(through, images.x, images.y, images.attacks, check=False)
    assert plain.robust_accuracy == 1 > found.robust_accuracy
