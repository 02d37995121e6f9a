"""What goes into a `.wiry` file comes out of it, bit for bit, and nothing is changed in silence."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.export.example import EVALUATION, KEPT, SPEC, recipe, trained
from tests.export.sparse_example import Holder, assert_same, bits
from torch import nn

import wiry
from wiry.core.errors import UserError
from wiry.core.mask import Mask, prunable
from wiry.core.registry import registry
from wiry.export.load import load
from wiry.export.sparse_file import load_mask, load_state, save
from wiry.export.sparse_read import read_sparse
from wiry.models.base import build_model

SHAPE = (1, 2, 2)
GRAPH = ["affine", "affine", "flatten", "linear", "relu", "linear"]
QUIET, SIGNALLING = 0x7FC12345, 0x7F812345  # NaN with a payload


def special(*patterns):
    return torch.tensor(patterns, dtype=torch.int32).view(torch.float32)


EVERYTHING = {
    "p_special": special(0, -(2**31), QUIET, SIGNALLING, 1, 0x7F800000).reshape(2, 3),
    "p_sparse": torch.tensor([[0.0, -0.0, 0.0, 1.5]] * 3),
    "p_half": torch.tensor([[0.0, -0.0, 1.5]] * 3).half(),
    "p_brain": torch.tensor([[0.0, -0.0, 0.0, 1.5]] * 3).bfloat16(),
    "p_double": torch.tensor([[0.1, 0, 0], [0, 0, 0]]).double(),
    "p_scalar": torch.tensor(0.25),
    "p_empty": torch.empty(0, 3, 2),
    "p_transposed": torch.arange(6.0).reshape(2, 3).t(),
    "p_channels_last": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "num_batches_tracked": torch.tensor(2**62 + 1),
    "b_bool": torch.tensor([[True, False], [False, False]]),
    "b_int8": torch.tensor([-1, 0, 127], dtype=torch.int8),
    "b_int16": torch.zeros(3, 40, dtype=torch.int16),
    "b_int32": torch.tensor([2**31 - 1, -1], dtype=torch.int32),
    "b_byte": torch.eye(20, dtype=torch.uint8),
    "b_brain": torch.tensor(1.5).bfloat16(),
}


def test_every_kind_of_tensor_comes_back_bit_for_bit(tmp_path):
    model = Holder(EVERYTHING)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save(model, tmp_path / "net.wiry", input_shape=SHAPE)
    assert_same(load_state(tmp_path / "net.wiry"), before)
    assert_same(model.state_dict(), before)
    assert len(load_mask(tmp_path / "net.wiry")) == 0


def test_of_masked_tensors_the_kept_entries_come_back_and_the_others_are_plain_zero(tmp_path):
    kept = torch.tensor([[True, True, False], [True, False, False]])
    mask = Mask({"p_special": kept, "p_scalar": torch.tensor(True), "p_half": torch.zeros(3, 3)})
    save(Holder(EVERYTHING), tmp_path / "net.wiry", input_shape=SHAPE, mask=mask)
    found = load_state(tmp_path / "net.wiry")
    expected = special(0, -(2**31), 0, SIGNALLING, 0, 0).reshape(2, 3)
    assert bits(found["p_special"]) == bits(expected)
    assert bits(found["p_half"]) == [0] * 18
    assert found["p_scalar"] == 0.25
    assert load_mask(tmp_path / "net.wiry").equal(mask)  # a kept zero stays kept


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(0, 5), max_size=4),
    density=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    seed=st.integers(0, 2**31),
    masked=st.booleans(),
)
def test_random_bit_patterns_and_masks_come_back(tmp_path_factory, shape, density, seed, masked):
    path = tmp_path_factory.mktemp("random") / "net.wiry"
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(-(2**31), 2**31, shape, generator=generator).int()
    kept = torch.rand(shape, generator=generator) < density
    tensor = words.where(kept, torch.tensor(0).int()).view(torch.float32)
    mask = Mask({"p": kept}) if masked else None
    save(Holder({"p": tensor}), path, input_shape=SHAPE, mask=mask)
    assert_same(load_state(path), {"p": tensor})
    assert load_mask(path).equal(mask or Mask())


@pytest.mark.parametrize("name", registry("model").names())
def test_every_model_comes_back_with_its_answers(name, tmp_path):
    shape = (3, 32, 32)
    model = build_model(name, input_shape=shape, num_classes=10, seed=1).eval()
    generator = torch.Generator().manual_seed(0)
    draws = {n: torch.rand(p.shape, generator=generator) for n, p in prunable(model).items()}
    mask = Mask({name: draw < 0.1 for name, draw in draws.items()})
    mask.apply_(model)
    before = torch.random.get_rng_state()
    save(model.train(), tmp_path / "net.wiry", input_shape=shape, mask=mask)
    found = load(tmp_path / "net.wiry")
    assert model.training and not found.training
    assert torch.equal(before, torch.random.get_rng_state())
    assert type(found) is type(model) and found.built_from == model.built_from
    assert_same(found.state_dict(), {n: t + 0 for n, t in model.state_dict().items()})
    images = torch.rand(2, *shape, generator=generator)
    assert torch.equal(found(images), model.eval()(images))
    dense = sum(t.nbytes for t in model.state_dict().values())
    assert (tmp_path / "net.wiry").stat().st_size < dense / 8 + 6000  # names, shapes and checksums


def test_what_is_known_of_the_network_is_in_the_file(tmp_path):
    model, path = trained(), tmp_path / "net.wiry"
    model.normalize.set_(torch.tensor([0.5]), torch.tensor([0.25]))
    Mask({"head.weight": KEPT}).apply_(model)
    save(
        model,
        path,
        input_shape=list(SHAPE),
        mask=Mask({"head.weight": KEPT}),
        recipe=recipe(),
        class_names=("no", "yes"),
        evaluation=EVALUATION,
    )
    facts = read_sparse(path).facts
    graph = facts.pop("graph")
    assert [op["kind"] for op in graph["ops"]] == GRAPH
    assert facts == {
        "model": SPEC,
        "input_shape": [1, 2, 2],
        "num_classes": 2,
        "class_names": ["no", "yes"],
        "normalisation": {"mean": [0.5], "std": [0.25]},
        "recipe": recipe().model_dump(exclude_defaults=True),
        "evaluation": EVALUATION,
        "rounding": None,
        "graph_fault": None,
        "wiry": wiry.__version__,
    }
    first = path.read_bytes()
    save(load(path), path, input_shape=SHAPE)
    assert path.read_bytes() != first  # no mask, no recipe
    assert list(tmp_path.iterdir()) == [path]


def test_an_evaluation_object_is_stored_as_its_record(tmp_path):
    model = trained()
    found = wiry.evaluate(model, torch.rand(4, *SHAPE), torch.tensor([0, 1, 0, 1]), [], check=False)
    save(model, tmp_path / "net.wiry", input_shape=SHAPE, evaluation=found)
    record = read_sparse(tmp_path / "net.wiry").facts["evaluation"]
    assert record["clean_accuracy"] == found.clean_accuracy


def test_a_network_that_wiry_did_not_build_is_tensors_only(tmp_path):
    path, model = tmp_path / "net.wiry", nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    save(model, path, input_shape=SHAPE)
    with pytest.raises(UserError, match=r"net\.wiry holds the tensors.*no model spec.*load_state"):
        load(path)
    assert_same(load_state(str(path)), model.state_dict())


def change_layer(model):
    model.hidden[1] = nn.Tanh()


def change_shape(model):
    model.head = nn.Linear(3, 5)


@pytest.mark.parametrize("change", [change_layer, change_shape])
def test_a_network_changed_since_it_was_built_is_tensors_only_and_says_so(tmp_path, change):
    model = trained()
    change(model)
    with pytest.warns(UserWarning, match="changed since wiry built it"):
        save(model, tmp_path / "net.wiry", input_shape=SHAPE)
    with pytest.raises(UserError, match="no model spec"):
        load(tmp_path / "net.wiry")


class WithExtra(nn.Linear):
    """A layer whose state is not all tensors."""

    def get_extra_state(self):
        return "text"


@pytest.mark.parametrize(
    ("model", "changes", "text"),
    [
        (trained(), {"input_shape": (3, 2, 2)}, "built for images of"),
        (trained(), {"input_shape": (1, 2, 0)}, "positive integers"),
        (trained(), {"class_names": ["a"]}, "1 class names for a network of 2 classes"),
        (trained(), {"mask": Mask({"tail": torch.ones(1)})}, "'tail' has no parameter"),
        (trained(), {"recipe": {"a": object()}}, "plain data"),
        (trained(), {"evaluation": {"a": float("nan")}}, "plain data"),
        (trained(), {"evaluation": {"a": "x" * 2**22}}, "leave the evaluation's details out"),
        (WithExtra(2, 2), {}, "'_extra_state' is 'str'"),
        (nn.LazyLinear(2), {}, "has no values yet"),
        (nn.Linear(2, 2, device="meta"), {}, "has no values yet"),
        (Holder({"b": torch.eye(2).to_sparse()}), {}, "'b' is sparse_coo"),
        (Holder({"b": torch.zeros(1, dtype=torch.complex64)}), {}, "'b' is complex64"),
        (Holder({"p": torch.eye(9), "bits:p": torch.ones(1)}), {}, "rename it"),
    ],
)
def test_what_a_file_cannot_hold_is_refused(tmp_path, model, changes, text):
    path = tmp_path / "net.wiry"
    with pytest.raises(UserError, match=text):
        save(model, path, **{"input_shape": SHAPE, **changes})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="is a folder"):
        save(model, tmp_path, input_shape=SHAPE)


def test_reading_as_numpy_imports_no_torch(tmp_path):
    save(trained(), tmp_path / "net.wiry", input_shape=SHAPE)
    code = (
        "import sys; from wiry.export.sparse_read import read_sparse; "
        f"print(len(read_sparse({str(tmp_path / 'net.wiry')!r}).arrays)); "
        "assert not {'torch', 'safetensors', 'pydantic'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
