"""Times in turns, with a clock of our own."""

import pytest

from wiry.bench.timing import Timing, time_in_turns


class Machine:
    """A clock that calls move on."""

    def __init__(self):
        self.now = 0.0
        self.log = []

    def call(self, name, seconds):
        def work():
            self.log.append(name)
            self.now += seconds

        return work

    def clock(self):
        return self.now


def test_calls_take_turns_and_cost_what_they_cost():
    machine = Machine()
    calls = {"a": machine.call("a", 1.0), "b": machine.call("b", 3.0)}
    found = time_in_turns(calls, num_rounds=2, slot_seconds=3.0, num_threads=1, clock=machine.clock)
    assert found["a"].seconds == (1.0, 1.0)
    assert found["b"].seconds == (3.0, 3.0)
    probes = ["a"] * 2 + ["b"] * 2
    first, second = ["a"] * 4 + ["b"] * 2, ["b"] * 2 + ["a"] * 4  # one call more warms up
    assert machine.log == probes + first + second


def test_ratio_is_the_median_of_the_ratios_of_the_rounds():
    slow = Timing((2.0, 9.0, 40.0))
    fast = Timing((1.0, 3.0, 10.0))
    assert fast.times_faster(slow) == 3.0
    assert slow.times_faster(fast) == pytest.approx(1 / 3)
    assert (slow.minimum, slow.median) == (2.0, 9.0)


def test_a_call_longer_than_its_slot_is_made_once_a_round():
    machine = Machine()
    time_in_turns(
        {"a": machine.call("a", 5.0)},
        num_rounds=3,
        slot_seconds=0.1,
        num_threads=1,
        clock=machine.clock,
    )
    assert machine.log == ["a"] * (2 + 3 * 2)
