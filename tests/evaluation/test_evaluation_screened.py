"""Screening: who is audited, when all are put to everything, and the bound on what was missed."""

import dataclasses

import pytest
import torch
from tests.evaluation.example import Shift, Threshold
from torch import nn

from wiry.attacks.presets import autoattack
from wiry.core.errors import UserError
from wiry.core.rng import global_seed
from wiry.evaluation.attacked import attack_images
from wiry.evaluation.autoattack import AutoAttack
from wiry.evaluation.examination import evaluate as examine
from wiry.evaluation.screened import choose, evaluate_screened, flip_bound

FIRST, SECOND = Shift(0.01), Shift(0.02)


@dataclasses.dataclass(frozen=True)
class Fell:
    """Fools the images whose pixel is one of `pixels`."""

    pixels: tuple[float, ...]
    eps: float = 1.0
    norm: str = "linf"

    def __call__(self, model, x, y, generator):
        hit = torch.isclose(x.flatten(1)[:, :1], torch.tensor(self.pixels)).any(1)
        return torch.where(hit.view(-1, 1, 1, 1), 1 - y.float().view(-1, 1, 1, 1), x)


def images():
    """Return twenty images of class 1, of pixels 0.55, 0.57 ... 0.93."""
    x = (0.55 + 0.02 * torch.arange(20)).view(-1, 1, 1, 1)
    return x, torch.ones(20, dtype=torch.long)


def test_the_nearest_are_suspects_and_the_audit_is_drawn_from_the_others():
    survivors = torch.tensor([1, 4, 5, 6, 8, 9, 11, 13, 14, 15])
    margin = torch.tensor([9.0, 1, 8, 7, 6, 5, 2, 3, 4, 10])
    suspects, audited = choose(survivors, margin, 0.2, 1, seed=0)
    assert suspects.tolist() == [4, 11]
    assert len(audited) == 2 and set(audited.tolist()) <= {1, 5, 6, 8, 9, 13, 14, 15}
    again = choose(survivors, margin, 0.2, 1, seed=0)[1]
    draws = {tuple(choose(survivors, margin, 0.2, 1, seed=s)[1].tolist()) for s in range(20)}
    assert torch.equal(audited, again) and len(draws) > 5
    none = choose(survivors[:0], margin[:0], 0.2, 1, seed=0)
    assert [len(part) for part in none] == [0, 0]
    assert len(choose(survivors, margin, 0.2, 5, seed=0)[1]) == 5
    assert len(choose(survivors, margin, 0.2, 30, seed=0)[1]) == 8, "all of the others"


def test_the_bound_is_the_one_for_no_success():
    assert flip_bound(1) == pytest.approx(0.95)
    assert flip_bound(138) == pytest.approx(0.0215, abs=1e-4)  # about 3 / n
    assert flip_bound(0) == 1.0


def test_a_suspect_that_falls_does_not_call_for_all():
    x, y = images()
    table, found = evaluate_screened(
        Threshold(), x, y, [FIRST, SECOND, Fell((0.55,))], share=0.1, min_audited=1
    )
    assert (found.num_survivors, found.num_suspects, found.num_audited) == (20, 2, 2)
    assert (found.num_flips, found.escalated, found.num_unseen) == (0, False, 16)
    assert found.flip_bound == pytest.approx(1 - 0.05**0.5)
    assert found.accuracy_bound == pytest.approx(found.flip_bound * 16 / 20)
    assert table.robust.tolist() == [False] + [True] * 19
    assert [e.num_attacked for e in table.efforts] == [20, 20, 4]
    assert [e.num_fooled for e in table.efforts] == [0, 0, 1]
    assert table.protocol == "screened" and table.cascade


def test_an_audited_image_that_falls_calls_for_all():
    x, y = images()
    pixels = tuple(round(0.61 + 0.02 * k, 2) for k in range(17))
    table, found = evaluate_screened(
        Threshold(), x, y, [FIRST, SECOND, Fell(pixels)], share=0.1, min_audited=1
    )
    assert found.escalated and found.num_flips == 2 and found.num_unseen == 0
    assert found.flip_bound == found.accuracy_bound == 0
    assert table.robust.tolist() == [True] * 3 + [False] * 17
    assert table.efforts[2].num_attacked == 20


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_screening_that_escalates_or_sees_all_agrees_with_the_cascade(share):
    with global_seed(0, "screened"):
        x = torch.rand(40, 1, 5, 5)
        model = nn.Sequential(nn.Flatten(), nn.Linear(25, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    with torch.no_grad():
        y = model(x).argmax(1)
    attacks = autoattack(0.05)
    whole = attack_images(model, x, y, attacks, cascade=True)
    table, found = evaluate_screened(model, x, y, attacks, share=share, min_audited=1)
    assert (table.robust >= whole.robust).all()
    assert (table.robust != whole.robust).sum() <= found.num_unseen
    for row, before in zip([*table.by_attack.values()][1:], table.by_attack.values(), strict=False):
        assert (row <= before).all(), "accuracies are cumulative"
    assert 0 < whole.robust.sum() < 40


def test_it_is_never_called_autoattack():
    with global_seed(0, "screened"):
        x = torch.rand(12, 1, 4, 4)
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4)).eval()
    with torch.no_grad():
        y = model(x).argmax(1)
    found = examine(model, x, y, "screened", eps=0.02)
    data = found.to_data(split="test")
    assert data["protocol"] == "screened" and data["screened"]["num_survivors"] > 0
    assert "AutoAttack" not in data["attack"] and "AutoAttack" not in str(found)
    assert examine(model, x, y, eps=0.02).to_data(split="test")["protocol"].startswith("AutoAttack")


def test_what_cannot_be_screened_is_refused():
    x, y = images()
    with pytest.raises(UserError, match="three attacks"):
        evaluate_screened(Threshold(), x, y, [FIRST, SECOND])
    with pytest.raises(UserError, match="20 and 3"):
        evaluate_screened(Threshold(), x, y[:3], [FIRST, SECOND, Shift(0.03)])
    with pytest.raises(ValueError, match="version"):
        AutoAttack(Threshold(), version="turbo")
