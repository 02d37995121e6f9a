"""The walk down in density, against a constraint whose answer is known."""

from hypothesis import given, settings
from hypothesis import strategies as st

from wiry.sweep.ladder import Ladder


def walk(ladder, limit):
    """Try densities of which those at or above `limit` pass."""
    passed = {}
    while (density := ladder.next_density(passed)) is not None:
        assert density not in passed, "nothing is tried twice"
        passed[density] = density >= limit
    return passed


def test_the_ladder_ends_at_the_least_density():
    assert Ladder(ratio=0.5, min_density=0.1).rungs() == [0.5, 0.25, 0.125, 0.1]


def test_the_walk_stops_at_the_first_failure_and_bisects():
    tried = walk(Ladder(ratio=0.5, min_density=0.01, num_bisections=2), 0.16)
    assert list(tried) == [0.5, 0.25, 0.125, 0.1768, 0.1487]
    assert min(d for d, ok in tried.items() if ok) == 0.1768


def test_a_failure_at_the_first_rung_bisects_towards_dense():
    assert list(walk(Ladder(min_density=0.01), 0.8)) == [0.5, 0.7071, 0.8409]


def test_a_path_has_all_rungs_above_the_target():
    assert Ladder(min_density=0.01).path_to(0.1768) == [0.5, 0.25, 0.1768]


@settings(max_examples=100, deadline=None)
@given(st.floats(0.001, 1.2), st.floats(0.2, 0.8), st.integers(0, 5))
def test_the_found_density_is_within_one_bisected_step_of_the_limit(limit, ratio, bisections):
    ladder = Ladder(ratio=ratio, min_density=0.005, num_bisections=bisections)
    tried = walk(ladder, limit)
    assert len(tried) <= ladder.most_trials()
    best = min((d for d, ok in tried.items() if ok), default=1.0)
    if 0.005 < limit < 1:
        assert best >= limit
        assert best * (ratio ** (0.5**bisections)) <= limit * 1.001
