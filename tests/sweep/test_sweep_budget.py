"""The time budget: what it grants stays granted, what it cuts stays cut."""

import json

from wiry.sweep.budget import Budget


def spent(path, seconds, elapsed):
    """Return a budget of which `elapsed` seconds are used up, as after a kill."""
    saved = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**saved, "elapsed": elapsed, "seconds": seconds}))
    return Budget(path, seconds)


def test_work_granted_before_a_kill_is_granted_again(tmp_path):
    path = tmp_path / "budget.json"
    first = Budget(path, 100.0)
    assert first.allows("explore x", 0, share=0.5) and first.allows("explore x", 1, share=0.5)
    again = spent(path, 100.0, 80.0)
    assert again.allows("explore x", 0, share=0.5) and again.allows("explore x", 1, share=0.5)
    assert not again.allows("explore x", 2, share=0.5)
    assert again.cut() == ["explore x"]


def test_a_cut_stays_until_the_budget_grows(tmp_path):
    path = tmp_path / "budget.json"
    assert not spent(path, 10.0, 11.0).allows("seeds", 0)
    assert not Budget(path, 10.0).allows("seeds", 0)
    assert Budget(path, 100.0).allows("seeds", 0)


def test_no_budget_is_no_limit(tmp_path):
    assert Budget(tmp_path / "budget.json", None).allows("seeds", 10**6)
