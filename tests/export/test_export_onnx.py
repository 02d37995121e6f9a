"""ONNX files: the same answers, no gradients, weights that are counted. Needs the extra."""

import logging
import sys
import warnings

import pytest
import torch
from torch import nn

from wiry.attacks.pgd import PGD
from wiry.attacks.square import Square
from wiry.core.errors import NoGradient, UserError
from wiry.evaluation.attacked import attack_images
from wiry.export.onnx_model import load_onnx
from wiry.export.outside import nonzeros


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.fc = nn.Linear(12, 4)

    def forward(self, x):
        return self.fc(torch.relu(self.conv(x)).flatten(1))


@pytest.fixture(scope="module", params=[True, False], ids=["any batch", "batches of 3"])
def pair(request, tmp_path_factory):
    for name in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(name)
    torch.manual_seed(0)
    made = Net().eval()
    with torch.no_grad():
        made.fc.weight[:, ::2] = 0
    path = tmp_path_factory.mktemp("onnx") / "net.onnx"
    shapes = ({0: torch.export.Dim("n")},) if request.param else None
    images = (torch.rand(3, 1, 4, 4),)
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(made, images, str(path), dynamic_shapes=shapes, verbose=False)
    finally:
        logging.disable(logging.NOTSET)
    return made, load_onnx(path)


def images(count=7):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 1, 4, 4, generator=generator), torch.arange(count) % 4


def test_answers_are_those_of_the_network(pair):
    made, black_box = pair
    for count in (1, 3, 7):
        x, _ = images(count)
        torch.testing.assert_close(black_box(x), made(x))


def test_verdicts_under_square_are_those_of_the_network(pair):
    x, y = images(20)
    attacks = [Square(0.1, num_queries=30)]
    eager, black_box = (attack_images(model, x, y, attacks, seed=3) for model in pair)
    assert eager.clean_correct.tolist() == black_box.clean_correct.tolist()
    assert eager.robust.tolist() == black_box.robust.tolist()


def test_gradients_are_refused_by_name(pair):
    _, black_box = pair
    x, y = images()
    with pytest.raises(NoGradient, match=r"net\.onnx"):
        black_box(x.requires_grad_())
    with pytest.raises(UserError, match="without gradients"):
        PGD(0.1, steps=1)(black_box, x.detach(), y, torch.Generator().manual_seed(0))


def test_weights_are_counted(pair):
    made, black_box = pair
    assert nonzeros(black_box).num_kept() == nonzeros(made).num_kept() == 24
    shapes = {tuple(p.shape) for p in black_box.parameters()}
    assert shapes == {(3, 1, 3, 3), (4, 12)}


def test_damaged_files_are_refused(tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    (tmp_path / "a.onnx").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"a\.onnx cannot be loaded"):
        load_onnx(tmp_path / "a.onnx")
    with pytest.raises(UserError, match=r"b\.onnx does not exist"):
        load_onnx(tmp_path / "b.onnx")


def test_without_the_extra_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"wiry\[onnx\]"):
        load_onnx(tmp_path / "a.onnx")
