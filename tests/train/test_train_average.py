"""Averages of the weights: closed forms, masks, saving, batch statistics."""

import pytest
import torch
from torch import nn, tensor

from wiry.core.errors import UserError
from wiry.core.mask import Mask
from wiry.core.registry import registry
from wiry.train.average import Ema, Swa, estimate_statistics_

NO_MASK = Mask()


class Weights(nn.Module):
    """One weight tensor of two entries."""

    def __init__(self, *values):
        super().__init__()
        self.weight = nn.Parameter(tensor([values]))


def run(settings, steps, *, masks=None, total=None, start=None):
    """Set the weights after each step, update the average, and return what it ends with."""
    model = Weights(*(start or steps[0]))
    average = settings.build(model)
    for number, values in enumerate(steps, start=1):
        mask = Mask({"weight": tensor([masks[number - 1]])}) if masks else NO_MASK
        with torch.no_grad():
            model.weight.copy_(tensor([values]))
        mask.apply_(model)
        average.update(model, mask, number / (total or len(steps)))
    average.finish(model, mask, [])
    return model.weight.detach()[0].tolist()


def mean(values):
    return sum(values) / len(values)


def test_ema_is_the_recursion_with_its_warm_up():
    """The first update keeps 1/10 of the average, the second 2/11, and so on up to the decay."""
    values, expected = [3.0, 5.0, 1.0], 2.0
    for count, value in enumerate(values):
        kept = min(0.15, (1 + count) / (10 + count))
        expected = kept * expected + (1 - kept) * value
    found = run(Ema(decay=0.15), [(v, 0.0) for v in values], start=(2.0, 0.0))
    assert found == pytest.approx([expected, 0.0])


def test_ema_of_constant_weights_is_the_weights_bit_for_bit():
    assert run(Ema(), [(0.1, -0.7)] * 50) == [tensor(0.1).item(), tensor(-0.7).item()]


def test_swa_is_the_mean_of_the_steps_after_its_start():
    values = [float(v) for v in (1, 9, 4, 7, 2, 8, 5, 3)]
    found = run(Swa(start=0.75), [(v, -v) for v in values])
    expected = mean(values[5:])  # steps 6, 7 and 8 of 8 end at 0.75, 0.875 and 1
    assert found == pytest.approx([expected, -expected])


def test_swa_without_a_step_after_its_start_leaves_the_weights():
    assert run(Swa(start=0.5), [(1.0, 2.0), (3.0, 4.0)], total=100) == [3.0, 4.0]


@pytest.mark.parametrize("settings", [Ema(), Swa(start=0.0)], ids=repr)
def test_no_step_at_all_leaves_the_weights(settings):
    model = Weights(1.0, 2.0)
    average = settings.build(model)
    with torch.no_grad():
        model.weight.mul_(3)  # what a set-up or a finish does
    average.finish(model, NO_MASK, [])
    assert model.weight.tolist() == [[3.0, 6.0]]


@pytest.mark.parametrize("settings", [Ema(), Swa(start=0.0)], ids=repr)
def test_a_dropped_entry_is_zero(settings):
    masks = [[True, True], [True, True], [True, False]]
    found = run(settings, [(1.0, 1.0), (1.0, 1.0), (1.0, 1.0)], masks=masks)
    assert found == [1.0, 0.0]


@pytest.mark.parametrize("settings", [Ema(), Swa(start=0.0)], ids=repr)
def test_a_grown_entry_begins_at_its_present_value(settings):
    masks = [[True, False], [True, False], [True, True]]
    found = run(settings, [(1.0, 0.0), (1.0, 0.0), (1.0, 0.25)], masks=masks)
    assert found == [1.0, 0.25]


def test_a_grown_entry_is_averaged_over_the_steps_it_lived():
    masks = [[True, True], [True, False], [True, True], [True, True], [True, True]]
    steps = [(1.0, 100.0), (2.0, 0.0), (3.0, 4.0), (4.0, 5.0), (5.0, 9.0)]
    assert run(Swa(start=0.0), steps, masks=masks) == pytest.approx([3.0, 6.0])


def test_an_ema_of_a_grown_entry_forgets_the_time_before():
    """Grown at 4, then 5: the second step after keeps 4 / 13 of what it found."""
    masks = [[True, True], [True, False], [True, True], [True, True]]
    steps = [(1.0, 100.0), (1.0, 0.0), (1.0, 4.0), (1.0, 5.0)]
    kept = (1 + 3) / (10 + 3)
    assert run(Ema(), steps, masks=masks)[1] == pytest.approx(kept * 4 + (1 - kept) * 5)


def test_an_entry_that_grows_in_the_first_step_is_not_mixed_with_zero():
    masks = [[True, True]]
    assert run(Ema(), [(1.0, 3.0)], masks=masks, start=(1.0, 0.0))[1] == 3.0


def test_an_entry_that_a_last_mask_adds_keeps_its_weight():
    model = Weights(1.0, 0.0)
    average = Ema().build(model)
    average.update(model, Mask({"weight": tensor([[True, False]])}), 1.0)
    with torch.no_grad():
        model.weight.copy_(tensor([[7.0, 8.0]]))
    average.finish(model, Mask({"weight": tensor([[True, True]])}), [])
    assert model.weight.tolist() == [[1.0, 8.0]]


@pytest.mark.parametrize("settings", [Ema(), Swa(start=0.0)], ids=repr)
def test_an_entry_is_alive_again_where_the_mask_is_gone(settings):
    """An absent name is dense, so what it masked out before has grown."""
    model = Weights(1.0, 0.0)
    average = settings.build(model)
    average.update(model, Mask({"weight": tensor([[True, False]])}), 0.5)
    with torch.no_grad():
        model.weight.copy_(tensor([[1.0, 6.0]]))
    average.update(model, NO_MASK, 1.0)
    average.finish(model, NO_MASK, [])
    assert model.weight.tolist() == [[1.0, 6.0]]


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Dropout(0.5))


def images(seed=0):
    return torch.rand(20, 1, 5, 5, generator=torch.Generator().manual_seed(seed))


def train_a_bit(model, average, mask, steps):
    model.train()
    for step in steps:
        model[:2](images(step))  # moves the running statistics; dropout would draw
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * step + 0.01)
        mask.apply_(model)
        average.update(model, mask, (step + 1) / 6)


@pytest.mark.parametrize("settings", [Ema(), Swa(start=0.3)], ids=repr)
@pytest.mark.parametrize("cut", range(7))
def test_a_saved_average_goes_on_as_if_nothing_had_happened(settings, cut, tmp_path):
    def mask(step):
        kept = torch.arange(27).view(3, 1, 3, 3) % 4 != step % 4
        return Mask({"0.weight": kept})

    results = []
    for cuts in ((), (cut,)):
        model = network()
        average = settings.build(model)
        for step in range(6):
            if step in cuts:
                torch.save(average.state_dict(), tmp_path / "a.pt")
                average = settings.build(network())
                average.load_state_dict(torch.load(tmp_path / "a.pt", weights_only=True))
            train_a_bit(model, average, mask(step), [step])
        average.finish(model, mask(5), [images(9)])
        results.append({name: value.clone() for name, value in model.state_dict().items()})
    assert all(torch.equal(value, results[1][name]) for name, value in results[0].items())


def test_the_average_leaves_training_alone_and_keeps_no_hold_of_the_weights():
    for settings in (Ema(), Swa(start=0.0)):
        model = network()
        average = settings.build(model)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        average.update(model, NO_MASK, 1.0)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert all(p.grad is None and p.requires_grad for p in model.parameters())
        for value in average.state_dict()["average"].values():
            value.add_(1)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_ema_averages_running_statistics_and_keeps_counts():
    model = network()
    average = Ema().build(model)
    model.train()
    model[:2](images())
    after = model[1].running_mean.clone()
    average.update(model, NO_MASK, 1.0)
    average.finish(model, NO_MASK, [])
    torch.testing.assert_close(model[1].running_mean, 0.9 * after)  # from 0, a tenth is kept
    assert int(model[1].num_batches_tracked) == 1


def test_swa_estimates_batch_statistics_anew_with_the_averaged_weights():
    model = network()
    average = Swa(start=0.0).build(model)
    train_a_bit(model, average, NO_MASK, range(3))
    average.finish(model, NO_MASK, [images(5), images(6)])
    outputs = [model[0](images(seed)) for seed in (5, 6)]
    expected = (outputs[0].mean((0, 2, 3)) + outputs[1].mean((0, 2, 3))) / 2
    torch.testing.assert_close(model[1].running_mean, expected.detach())
    variance = (outputs[0].var((0, 2, 3)) + outputs[1].var((0, 2, 3))) / 2
    torch.testing.assert_close(model[1].running_var, variance.detach())
    assert model[1].momentum == 0.1


def test_estimating_statistics_leaves_modes_and_the_global_generator_as_found():
    model = network().train()
    model[0].eval()
    state = torch.get_rng_state()
    estimate_statistics_(model, [images()])  # dropout is in eval mode meanwhile
    assert torch.equal(state, torch.get_rng_state())
    assert [m.training for m in model.modules()] == [True, False, True, True, True]
    assert all(p.grad is None for p in model.parameters())


def test_no_batch_is_drawn_for_a_network_without_batch_statistics():
    def batches():
        raise AssertionError("a batch was drawn")
        yield

    estimate_statistics_(Weights(1.0, 2.0), batches())


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"name": "ema", "decay": 1.0}, r"decay must be in \[0, 1\), got 1"),
        ({"name": "swa", "start": -0.1}, r"start must be in \[0, 1\), got -0.1"),
        ({"name": "sma"}, "closest: 'swa'|closest: 'ema'"),
    ],
)
def test_a_field_that_makes_no_sense_is_refused(spec, text):
    with pytest.raises(UserError, match=text):
        registry("average").build(spec)
