"""`wiry compare` from the command line: what it prints, its exit codes, Ctrl-C."""

import os
import signal
import subprocess
import sys
import time

import pytest
from tests.cli.commands import error_line, only_json

from wiry.cli import run

TINY = ["data={name: digits, num_train: 256, num_validation: 20, num_test: 12}"]
TINY += [
    "model={name: mlp, widths: [16]}",
    "stages.0.epochs=8",
    "stages.0.objective.attack.steps=1",
]
QUICK = ["compare", *(word for change in TINY for word in ("--set", change)), "--seeds", "0,1"]
QUICK += ["--methods", "one-shot,slimming", "--sparsity", "0.5"]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A folder in which the quick comparison is finished."""
    out = tmp_path_factory.mktemp("compare")
    assert run([*QUICK, "--workers", "0", "--out", str(out)]) == 0
    return out


def test_a_finished_comparison_is_shown_again_without_training(done, capsys):
    assert run([*QUICK, "--out", str(done)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "nothing is trained again" in text
    assert "At 50.0 % sparsity: one-shot, robust" in text
    assert "slimming at 50.0 %: " in text and "batch" in text  # the reason it is not ranked
    assert "Report: " in text and next(done.glob("compare-*/report.html")).stat().st_size > 100_000


def test_json_is_one_object_with_everything(done, capsys):
    assert run([*QUICK, "--out", str(done), "--json"]) == 0
    found = only_json(capsys)
    assert found["finished"] and found["methods"] == ["one-shot", "slimming"]
    assert [c["winner"] for c in found["columns"]] == ["one-shot"]
    assert {row["status"] for row in found["rows"]} == {"done", "refused"}
    assert found["report"].endswith("report.html")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--methods", "one-shoot"], "no method 'one-shoot'; closest: 'one-shot'"),
        (["--methods", "one-shot,one-shot"], "--methods needs one or more different values"),
        (["--methods", "all,rigl"], "no method 'all'"),
        (["--sparsity", "90"], "Did you mean 0.9?"),
        (["--sparsity", "0"], "--sparsity must be in (0, 1)"),
        (["--sparsity", "much"], "write shares with commas"),
        (["--sparsity", "0.9,0.9"], "--sparsity needs one or more different values"),
        (["--sparsity", "nan"], "--sparsity must be in [0, 1), got nan"),
        (["--seeds", "0"], "two or more seeds"),
        (["--seeds", "0,0"], "--seeds needs one or more different values"),
        (["--eps", "big"], "--eps 'big' is not a number"),
        (["--epochs", "-1"], "stages.0.epochs"),
        (["--sparse-epochs", "-1"], "--sparse-epochs must be in"),
        (["--data", "nothing"], "no dataset 'nothing'"),
        (["--device", "abacus"], "device 'abacus' cannot be used here"),
        (["missing.yaml"], "cannot be read"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(change, words, tmp_path, capsys):
    assert run([*QUICK, "--workers", "0", "--out", str(tmp_path), *change]) == 2
    assert words in error_line(capsys)


def test_ctrl_c_in_the_middle_is_one_line_and_the_same_command_goes_on(tmp_path):
    arguments = [*QUICK, "--methods", "one-shot,set", "--workers", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "wiry.cli", *arguments, "--out", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    limit = time.monotonic() + 120
    while not list(tmp_path.glob("compare-*/compare.json")):
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "wiry: interrupted; the same command continues where it was\n"
    assert run([*arguments, "--workers", "0", "--out", str(tmp_path), "--json"]) == 0
