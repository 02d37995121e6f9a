"""Programs of torch.export: the same answers, gradients and verdicts as the network itself."""

import builtins
import copy
import io
import warnings
import zipfile

import pytest
import torch
from torch import nn

from wiry.attacks.fgsm import FGSM
from wiry.attacks.pgd import PGD
from wiry.core.errors import UserError
from wiry.evaluation.attacked import attack_images
from wiry.evaluation.judge import frozen
from wiry.export.outside import nonzeros
from wiry.export.program import load_program

pytestmark = pytest.mark.filterwarnings("ignore:.*:FutureWarning")


def network():
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(12, 4),
    )
    made[1].running_mean.fill_(0.2)
    with torch.no_grad():
        made[5].weight[:, ::2] = 0
    return made


def exported(made, path, *, dynamic, count=3):
    shapes = ({0: torch.export.Dim("n")},) if dynamic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(made, (torch.rand(count, 1, 4, 4),), dynamic_shapes=shapes)
        torch.export.save(program, path)
    return path


@pytest.fixture(scope="module", params=[True, False], ids=["any batch", "batches of 3"])
def pair(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "net.pt2"
    made = network().eval()
    return made, load_program(exported(made, path, dynamic=request.param))


def images(count=7):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 1, 4, 4, generator=generator), torch.arange(count) % 4


def test_answers_and_gradients_are_those_of_the_network(pair):
    made, program = pair
    x, _ = images()
    torch.testing.assert_close(program(x), made(x))
    gradients = []
    for model in pair:
        image = x.clone().requires_grad_()
        gradients += torch.autograd.grad(model(image).square().sum(), image)
    torch.testing.assert_close(gradients[0], gradients[1])


def test_verdicts_under_attack_are_those_of_the_network(pair):
    x, y = images(20)
    attacks = [FGSM(0.1), PGD(0.1, steps=5, restarts=2)]
    eager, program = (attack_images(model, x, y, attacks, seed=3) for model in pair)
    assert eager.clean_correct.tolist() == program.clean_correct.tolist()
    assert eager.robust.tolist() == program.robust.tolist()
    assert 0 < int(eager.clean_correct.sum()) < 20 or not eager.robust.all()


def test_zeros_and_names_are_those_of_the_network(pair):
    made, program = pair
    assert [n.removeprefix("network.") for n in nonzeros(program)] == list(nonzeros(made))
    assert nonzeros(program).num_kept() == 24


def test_a_program_has_one_mode_and_can_be_frozen_and_copied(pair):
    _, program = pair
    x, _ = images()
    with frozen(program):
        before = program(x)
        assert not any(p.requires_grad for p in program.parameters())
    assert torch.equal(program.train()(x), before) and not program.training
    assert torch.equal(copy.deepcopy(program)(x), before)


def rewritten(source, target, change):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return target


class Evil:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self):
        return (exec, ("import builtins; builtins.wiry_was_here = True",))


def pickled():
    buffer = io.BytesIO()
    torch.save(Evil(), buffer)
    return buffer.getvalue()


def test_what_would_be_unpickled_freely_is_refused_and_not_run(tmp_path):
    source = exported(network().eval(), tmp_path / "net.pt2", dynamic=True)
    changes = {
        "inputs": lambda n, d: pickled() if n.endswith("sample_inputs/model.pt") else d,
        "weight": lambda n, d: (
            pickled()
            if n.endswith("/weight_0")
            else d.replace(b'"use_pickle": false', b'"use_pickle": true')
            if n.endswith("weights_config.json")
            else d
        ),
    }
    for change in changes.values():
        with pytest.raises(UserError, match="without running code"):
            load_program(rewritten(source, tmp_path / "evil.pt2", change))
    assert not hasattr(builtins, "wiry_was_here")


def test_compiled_and_damaged_files_are_refused_by_name(tmp_path):
    source = exported(network().eval(), tmp_path / "net.pt2", dynamic=True)
    with zipfile.ZipFile(source, "a") as archive:
        archive.writestr("net/data/aotinductor/model/a.so", b"")
    (tmp_path / "text.pt2").write_text("nothing")
    with zipfile.ZipFile(tmp_path / "empty.pt2", "w") as archive:
        archive.writestr("a", b"")
    wrong = {
        "net": "is compiled",
        "text": "not a program",
        "empty": "cannot be loaded",
        "no": "read",
    }
    for name, expected in wrong.items():
        with pytest.raises(UserError, match=expected) as caught:
            load_program(tmp_path / f"{name}.pt2")
        assert f"{name}.pt2" in str(caught.value) and "\n" not in str(caught.value)


def test_a_program_in_training_mode_is_refused(tmp_path):
    path = exported(network().train(), tmp_path / "net.pt2", dynamic=False)
    with pytest.raises(UserError, match="training mode"):
        load_program(path)


class Two(nn.Module):
    def forward(self, x, y):
        return x.flatten(1) + y


def test_a_program_must_take_images_and_nothing_else(tmp_path):
    two = (torch.rand(2, 3), torch.rand(2, 3))
    torch.export.save(torch.export.export(Two(), two), tmp_path / "two.pt2")
    torch.export.save(torch.export.export(nn.Linear(3, 2), two[:1]), tmp_path / "flat.pt2")
    for name, expected in (("two", "takes 2 inputs"), ("flat", "does not take images")):
        with pytest.raises(UserError, match=expected):
            load_program(tmp_path / f"{name}.pt2")
