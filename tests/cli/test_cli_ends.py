"""Bad ends: places that cannot be written, Ctrl-C and kill.

What happens to processes is tested on real processes in a session of their own.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.cli.commands import SEARCH, TINY, error_line, write
from tests.train.tiny import artifacts

from wiry.cli import run
from wiry.core.files import read_json
from wiry.core.recipe_file import load_recipe
from wiry.core.run import Run

LONG = TINY | {
    "name": "long",
    "stages": [{"name": "dense", "epochs": 300, "batch_size": 20}],
    "monitor": {"every": "5ep"},
}
LONG_SEARCH = TINY | {
    "name": "longsearch",
    "data": TINY["data"] | {"num_test": 10},
    "stages": [TINY["stages"][0] | {"epochs": 2, "batch_size": 20}],
}
LONG_SPARSE = ["--sparse-epochs", "60"]  # the signal comes while one worker trains, one starts
INTERRUPTED = "wiry: interrupted; the same command continues where it was\n"


def bad_folders(tmp_path):
    (tmp_path / "file").write_text("")
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    folders = [
        tmp_path / "file",
        tmp_path / "file" / "below",
        Path("/proc/wiry"),
        Path("/dev/null"),
    ]
    return folders if os.geteuid() == 0 else [*folders, locked]


def test_an_output_folder_that_cannot_be_written_is_one_line(tmp_path, capsys):
    path = write(tmp_path / "r.yaml", TINY)
    for folder in bad_folders(tmp_path):
        assert run(["train", str(path), "--out", str(folder)]) == 2, folder
        assert str(folder) in error_line(capsys)
        search = ["search", str(path), "--workers", "0", "--out", str(folder)]
        assert run(search) == 2, folder
        assert str(folder) in error_line(capsys)


def test_a_report_that_cannot_be_written_is_one_line(tiny, tmp_path, capsys):
    _, _, made = tiny
    for folder in bad_folders(tmp_path):
        for option in ("--figures", "--latex", "--csv"):
            target = folder if option == "--figures" else folder / "table"
            assert run(["report", str(made.root), option, str(target)]) == 2, (option, folder)
            assert "wiry: error: " in capsys.readouterr().err


def start(arguments):
    """Start `wiry` in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "wiry.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(condition, seconds, what):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def num_alive(session):
    """Count the processes of a session that run, dead ones that nobody has waited for left out."""
    num = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, owner = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        num += int(owner) == session and state not in "ZX"
    return num


def measured(folder, stage):
    """Return the metrics files of stages of a name that are being trained."""
    return [
        path
        for path in folder.rglob(f"stages/{stage}/metrics.jsonl")
        if path.stat().st_size and not (path.parent / "DONE").exists()
    ]


def stop_in_training(arguments, folder, send, stage="*"):
    """Start a command, send a signal to it in the middle of a training and return what it said."""
    process = start(arguments)
    try:
        wait_for(
            lambda: measured(folder, stage) or process.poll() is not None, 60, "a training began"
        )
        assert process.poll() is None, process.communicate()
        send(process.pid)
        process.wait(10)
        wait_for(lambda: num_alive(process.pid) == 0, 3, "no process is left")
        return process.returncode, *process.communicate()
    finally:
        if num_alive(process.pid):
            os.killpg(process.pid, signal.SIGKILL)


def interrupt(pid):
    os.killpg(pid, signal.SIGINT)


def test_interrupting_a_training_is_one_line_and_the_same_command_continues(tmp_path, capsys):
    path = write(tmp_path / "r.yaml", LONG)
    arguments = ["train", path, "--out", tmp_path / "cut"]
    code, _, err = stop_in_training(arguments, tmp_path / "cut", interrupt)
    assert (code, err) == (130, INTERRUPTED)
    for out in ("cut", "whole"):
        assert run(["train", str(path), "--out", str(tmp_path / out)]) == 0
    recipe = load_recipe(path)
    cut, whole = (artifacts(Run.of(recipe, tmp_path / out)) for out in ("cut", "whole"))
    assert cut == whole


@pytest.fixture(scope="module")
def whole_search(tmp_path_factory):
    """The outcome of the search that the tests below interrupt, without an interruption."""
    folder = tmp_path_factory.mktemp("search")
    path = write(folder / "r.yaml", LONG_SEARCH)
    assert (
        run(
            [
                "search",
                str(path),
                *SEARCH,
                *LONG_SPARSE,
                "--workers",
                "0",
                "--out",
                str(folder / "out"),
            ]
        )
        == 0
    )
    return path, outcome_of(folder / "out")


def outcome_of(folder):
    (path,) = folder.glob("search-*/search.json")
    found = read_json(path)
    return {key: found[key] for key in ("winner", "candidates", "dense", "constraint", "stopped")}


@pytest.mark.parametrize(
    ("send", "expected"),
    [(interrupt, (130, INTERRUPTED)), (lambda pid: os.kill(pid, signal.SIGKILL), (-9, ""))],
    ids=["interrupted", "killed"],
)
def test_a_search_that_is_stopped_leaves_no_process_and_continues(
    send, expected, whole_search, tmp_path
):
    path, whole = whole_search
    arguments = ["search", path, *SEARCH, *LONG_SPARSE, "--out", tmp_path]
    code, _, err = stop_in_training([*arguments, "--workers", "2"], tmp_path, send, "2-*")
    if code == -9:  # Python tells of the semaphores that the killed process could not free
        err = "" if "leaked semaphore" in err and "Traceback" not in err else err
    assert (code, err) == expected
    assert not list(tmp_path.rglob("search.json"))
    assert run([str(a) for a in [*arguments, "--workers", "0"]]) == 0
    assert outcome_of(tmp_path) == whole
