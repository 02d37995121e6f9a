"""What an evaluation prints while it runs and when it is done, and how values are read."""

import pytest

from wiry.console_evaluate import Watch, against_lines, brief_attack, duration, status_line
from wiry.console_parse import parse_batch_size, parse_components, parse_data, parse_values
from wiry.core.errors import UserError
from wiry.evaluation.progress import Status


def test_a_status_says_what_runs_what_is_left_what_stands_and_how_long():
    status = Status("APGD(eps=0.03, loss='targeted-dlr')", 40, 100, 30, 200, 400.0)
    expected = "APGD (targeted-dlr) | 60 of 100 images left | robust so far 15.0 %"
    assert status_line(status) == f"{expected} | about 7 min left"
    assert status_line(Status("clean", 200, 200, 150, 200)) == (
        "clean | 0 of 200 images left | clean 75.0 %"
    )
    assert status_line(Status("clever", 0, 0, 30, 200)) == "clever | robust so far 15.0 %"


def test_attacks_and_times_are_brief():
    assert brief_attack("Square(eps=0.1, norm='linf', num_queries=5000)") == "Square (5000)"
    assert brief_attack("FGSM(eps=0.1)") == "FGSM" and brief_attack("clean") == "clean"
    assert [duration(s) for s in (0, 89, 91, 5399, 7200)] == [
        "0 s",
        "89 s",
        "2 min",
        "90 min",
        "2.0 h",
    ]


def test_without_a_terminal_lines_come_at_most_every_ten_seconds_on_standard_error(capsys):
    now = [0.0]
    with Watch(clock=lambda: now[0]) as watch:
        for second in range(35):
            now[0] = float(second)
            watch(Status(f"at {second}", 0, 1, 1, 1))
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(" |")[0] for line in err.splitlines()] == ["at 10", "at 20", "at 30"]


def test_a_quiet_watch_says_nothing(capsys):
    now = [0.0]
    with Watch(quiet=True, clock=lambda: now[0]) as watch:
        now[0] = 100.0
        watch(Status("fgsm", 0, 1, 1, 1))
    assert capsys.readouterr() == ("", "")


def test_a_comparison_says_who_lost_what_with_an_interval():
    verdicts = {"num_lost": 3, "num_gained": 1, "difference": -0.02, "interval": [-0.05, 0.01]}
    verdicts["p_value"] = 0.625
    matrix = {"names": ["a", "b"], "kept": [[0.1, 0.9], [None, 0.2]], "num_both": [[9, 8], [8, 9]]}
    against = {"dense": "a", "sparse": "b", "flips": {"clean": verdicts, "robust": None}}
    lines = against_lines({**against, "transfer": matrix})
    assert len(lines) == 3
    assert "b loses 3 images that a has right and gains 1: -2.0 points (-5.0 to +1.0" in lines[0]
    assert "made for a, b still has 90.0 % right (8 " in lines[1] and "has - right" in lines[2]


def test_components_are_read_with_their_fields():
    assert parse_components(["a,b:n=3:eps=8/255", "c:list=[1,2]:word=x"], "--measure") == (
        {"name": "a"},
        {"name": "b", "n": 3, "eps": 8 / 255},
        {"name": "c", "list": [1, 2], "word": "x"},
    )
    assert parse_components(None, "--measure") == ()


def test_numbers_paths_and_sizes_are_read():
    assert parse_values("0.5,51/255", "--mean") == (0.5, 0.2) and parse_values(None, "--mean") == ()
    assert parse_batch_size("auto") == "auto" and parse_batch_size("64") == 64
    assert parse_data(None) is None and parse_data("digits") == {"name": "digits"}
    assert str(parse_data("a/b.npz")) == "a/b.npz"


@pytest.mark.parametrize("text", ["", ",", ":", "a:", "a:b", "a:=3", "a:b=1:b=2", "a:b=[", "a,,b"])
def test_components_that_are_none_are_refused(text):
    with pytest.raises(UserError):
        parse_components([text], "--measure")
