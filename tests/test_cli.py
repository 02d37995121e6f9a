"""The command line from end to end on recipes that train in a moment: happy paths and bad ends.

What happens to processes (Ctrl-C, kill) is tested on real processes in a session of their own.
"""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.train.tiny import artifacts
from wiry.cli import run
from wiry.core.files import read_json
from wiry.core.recipe_file import load_recipe
from wiry.core.registry import kinds, registry
from wiry.core.run import Run

HOUSE = Path(__file__).parents[1]
ATTACK = {"name": "pgd", "eps": 0.1, "steps": 2}
TINY = {
    "name": "tiny",
    "data": {"name": "digits", "num_train": 100, "num_validation": 60, "num_test": 30},
    "model": {"name": "mlp", "widths": [16]},
    "stages": [
        {"name": "dense", "epochs": 2, "objective": {"name": "adversarial", "attack": ATTACK}},
        {
            "name": "sparse",
            "epochs": 1,
            "start": {"weights": "dense"},
            "sparsifier": {"name": "magnitude", "sparsity": 0.5},
        },
    ],
    "evaluation": {"attacks": [{"name": "fgsm", "eps": 0.1}], "num_samples": 30},
}
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
SEARCH = ["--methods", "one-shot,gradual", "--seeds", "0", "--min-density", "0.5"]
SEARCH += ["--max-drop", "1"]
LONG_SPARSE = ["--sparse-epochs", "60"]  # the signal comes while one worker trains, one starts
INTERRUPTED = "wiry: interrupted; the same command continues where it was\n"

# A changed identity orphans the runs people have: change a line only with a line in CHANGELOG.md.
IDENTITIES = {
    "recipes/mnist-mlp-lottery-fgsm-dense-short.yaml": "da70941b",
    "recipes/mnist-mlp-lottery-fgsm-dense.yaml": "9c5a44f9",
    "recipes/mnist-mlp-lottery-fgsm-init-short.yaml": "01bf4572",
    "recipes/mnist-mlp-lottery-fgsm-init.yaml": "6d92569a",
    "recipes/mnist-mlp-lottery-pgd-dense-short.yaml": "ceb02dae",
    "recipes/mnist-mlp-lottery-pgd-dense.yaml": "58f17081",
    "recipes/mnist-mlp-lottery-pgd-init-short.yaml": "d5625a85",
    "recipes/mnist-mlp-lottery-pgd-init.yaml": "ddce3f2b",
    "presets/cifar10.yaml": "96c9a68a",
    "presets/digits.yaml": "2aedaf0f",
    "presets/fashion-mnist.yaml": "95626568",
    "presets/mnist.yaml": "5bc5f461",
}


def write(path, data):
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A finished run of the tiny recipe, made by `wiry train`: recipe, output folder, run."""
    folder = tmp_path_factory.mktemp("tiny")
    path = write(folder / "tiny.yaml", TINY)
    assert run(["train", str(path), "--out", str(folder / "runs")]) == 0
    return path, folder / "runs", Run.of(load_recipe(path), folder / "runs")


def only_json(capsys):
    """Return the one JSON object on standard output; standard error has no traceback."""
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    found = json.loads(out)
    assert isinstance(found, dict) and len(out.splitlines()) == 1
    return found


def error_line(capsys):
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and err.startswith("wiry: error: ")
    return err


# --- commands that work ---------------------------------------------------------------------------


def test_train_writes_a_run_and_prints_json_the_second_time_too(tiny, capsys):
    path, out, made = tiny
    for _ in range(2):
        assert run(["train", str(path), "--out", str(out), "--json"]) == 0
        printed = only_json(capsys)
        assert Path(printed["run"]) == made.root and Path(printed["report"]).is_file()
        assert list(printed["stages"]) == ["dense", "sparse"]
        sparse = printed["stages"]["sparse"]
        assert sparse["num_samples"] == 30 and sparse["split"] == "test"
        assert sparse["cost"]["mask_density"] == pytest.approx(0.5, abs=0.001)
        assert 0 <= sparse["robust_accuracy"] <= sparse["clean_accuracy"] <= 1


def test_train_without_json_prints_a_table_and_the_places(tiny, capsys):
    path, out, made = tiny
    assert run(["train", str(path), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "dense" in printed and "sparse" in printed
    assert str(made.root) in printed and "report.html" in printed


def test_set_makes_another_run(tiny, tmp_path, capsys):
    path, _, made = tiny
    arguments = ["--set", "stages.1.sparsifier.sparsity=3/4", "--set", "seed=1"]
    assert run(["train", str(path), "--out", str(tmp_path), "--json", *arguments]) == 0
    printed = only_json(capsys)
    assert Path(printed["run"]).name != made.root.name
    assert printed["stages"]["sparse"]["cost"]["mask_density"] == pytest.approx(0.25, abs=0.001)


def test_evaluate_measures_a_stage_under_one_attack(tiny, capsys):
    _, _, made = tiny
    arguments = ["evaluate", str(made.root), "--stage", "dense", "--attack", "fgsm", "--json"]
    arguments += ["--eps", "8/255", "--num-samples", "20", "--split", "validation"]
    assert run(arguments) == 0
    printed = only_json(capsys)
    assert printed["eps"] == pytest.approx(8 / 255) and printed["num_samples"] == 20
    assert printed["split"] == "validation" and len(printed["attacks"]) == 1
    assert run([a for a in arguments if a != "--json"]) == 0
    assert "dense" in capsys.readouterr().out


def test_evaluate_takes_eps_from_the_training_and_the_last_stage(tiny, capsys):
    _, _, made = tiny
    write_to = ["evaluate", str(made.root), "--attack", "screen", "--num-samples", "10", "--json"]
    assert run([*write_to, "--stage", "dense"]) == 0
    assert only_json(capsys)["eps"] == 0.1
    assert run(write_to) == 2  # the last stage trains without an attack
    assert "--eps" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--stage", "dens"], "dense"),
        (["--attack", "pgdd", "--eps", "0.1"], "closest: 'pgd'"),
        (["--eps", "8"], "eps"),
        (["--eps", "0.1", "--norm", "l7"], "norm"),
        (["--eps", "0.1", "--split", "train"], "validation"),
        (["--eps", "0.1", "--device", "cuda:99"], "cuda:99"),
    ],
)
def test_evaluate_refuses_in_one_line(arguments, expected, tiny, capsys):
    _, _, made = tiny
    assert run(["evaluate", str(made.root), *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("wiry: error: ") and len(err.splitlines()) == 1 and expected in err


def test_report_writes_page_figures_and_tables(tiny, tmp_path, capsys):
    _, _, made = tiny
    arguments = ["--figures", str(tmp_path / "f"), "--latex", str(tmp_path / "t.tex")]
    assert run(["report", str(made.root), *arguments, "--csv", str(tmp_path / "t.csv")]) == 0
    printed = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert all(path.stat().st_size > 50 for path in printed)
    kinds_written = {path.suffix for path in printed}
    assert kinds_written == {".html", ".pdf", ".svg", ".tex", ".csv"}
    assert "tabular" in (tmp_path / "t.tex").read_text()
    assert "sparse" in (tmp_path / "t.csv").read_text()


def test_a_search_exits_with_0_and_3_and_prints_one_json_object(tmp_path, capsys):
    path = write(tmp_path / "r.yaml", TINY)
    common = ["search", str(path), "--workers", "0", "--out", str(tmp_path / "runs"), "--json"]
    assert run([*common, *SEARCH]) == 0
    printed = only_json(capsys)
    assert printed["winner"]["density"] == pytest.approx(0.5, abs=0.01)
    assert Path(printed["report"]).is_file()
    best = next((tmp_path / "runs").glob("search-*")) / "best"
    evaluated = ["--attack", "fgsm", "--eps", "0.1", "--num-samples", "10", "--json"]
    assert run(["evaluate", str(best), *evaluated]) == 0
    assert only_json(capsys)["cost"]["mask_density"] == pytest.approx(0.5, abs=0.01)
    assert run([*common, *SEARCH[:-2], "--min-clean", "1", "--min-robust", "1"]) == 3
    assert only_json(capsys)["winner"] is None


@pytest.mark.parametrize("kind", [*kinds(), "sparsifiers", "methods"])
def test_list_names_everything_with_a_line_each(kind, capsys):
    assert run(["list", kind]) == 0
    title, *lines = capsys.readouterr().out.splitlines()
    assert title == kind.removesuffix("s") + "s"
    names = [line.split()[0] for line in lines]
    assert names == sorted(names)
    assert set(registry(kind.removesuffix("s")).names()) <= set(names)
    assert all(len(line.split()) > 2 for line in lines), "every component says what it is"


def test_list_without_a_kind_lists_every_kind(capsys):
    assert run(["list"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.removesuffix("s") for line in printed if not line.startswith(" ")] == kinds()


def test_show_writes_out_levels(tmp_path, capsys):
    level = {"name": "level", "levels": 2, "start": {"weights": "dense@0it", "mask": "previous"}}
    level["start"]["mask"] = "none"
    path = write(tmp_path / "r.yaml", TINY | {"stages": [TINY["stages"][0], level]})
    assert run(["show", str(path)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"tiny-{load_recipe(path).identity()}: mlp on digits, seed 0\n")
    assert [line.split(":")[0].strip() for line in printed.splitlines()[1:]] == [
        "dense",
        "level-1",
        "level-2",
    ]


# --- recipes and their schema ---------------------------------------------------------------------

SHIPPED = sorted(
    [*(HOUSE / "recipes").rglob("*.yaml"), *(HOUSE / "src/wiry/sweep/presets").glob("*.yaml")]
)


def place(path):
    return path.relative_to(HOUSE).as_posix().removeprefix("src/wiry/sweep/")


def test_every_shipped_recipe_has_its_pinned_identity():
    assert {place(path): load_recipe(path).identity() for path in SHIPPED} == IDENTITIES


def fits(schema, value, root):
    """Say whether plain data fits a JSON schema, for the few words that ours uses."""
    if "$ref" in schema:
        return fits(root["$defs"][schema["$ref"].rpartition("/")[2]], value, root)
    if "anyOf" in schema:
        return any(fits(option, value, root) for option in schema["anyOf"])
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "const" in schema and value != schema["const"]:
        return False
    types = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
    types |= {"number": (int, float), "null": type(None)}
    if "type" in schema and not isinstance(value, types[schema["type"]]):
        return False
    if isinstance(value, bool) and schema.get("type") in ("integer", "number"):
        return False
    if isinstance(value, int | float) and not isinstance(value, bool):
        return schema.get("minimum", value) <= value <= schema.get("maximum", value)
    if isinstance(value, str):
        return re.search(schema.get("pattern", ""), value) is not None
    if isinstance(value, list):
        enough = len(value) >= schema.get("minItems", 0)
        return enough and all(fits(schema.get("items", {}), item, root) for item in value)
    if isinstance(value, dict):
        known, more = schema.get("properties", {}), schema.get("additionalProperties", True)
        if not set(schema.get("required", [])) <= set(value):
            return False
        if more is False and not set(value) <= set(known):
            return False
        rest = more if isinstance(more, dict) else {}
        return all(fits(known.get(key, rest), item, root) for key, item in value.items())
    return True


@pytest.fixture(scope="module")
def schema():
    from wiry.core.schema import recipe_schema

    return json.loads(json.dumps(recipe_schema()))


def test_schema_prints_the_schema(schema, capsys):
    assert run(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema


@pytest.mark.parametrize("path", SHIPPED, ids=place)
def test_the_schema_accepts_every_shipped_recipe(path, schema):
    assert fits(schema, yaml.safe_load(path.read_text()), schema)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "No Spaces"},
        {"seed": -1},
        {"stages": []},
        {"stages": [{"epochs": 3}]},
        {"stages": [{"name": "a", "epoch": 3}]},
        {"stages": [{"name": "a", "sparsifier": {"name": "magnitude", "sparsit": 0.5}}]},
        {"stages": [{"name": "a", "optimizer": "adamm"}]},
        {"model": {"name": "mlp", "widths": "wide"}},
        {"modle": "mlp"},
    ],
)
def test_the_schema_refuses_what_the_command_refuses(change, schema, tmp_path, capsys):
    assert fits(schema, TINY, schema)
    assert not fits(schema, TINY | change, schema)
    assert run(["show", str(write(tmp_path / "r.yaml", TINY | change))]) == 2
    error_line(capsys)


# --- places that cannot be written ----------------------------------------------------------------


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


# --- processes ------------------------------------------------------------------------------------


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


def test_help_is_quick_and_does_not_import_torch():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "wiry.cli", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "typer" in imported and not imported & {"torch", "numpy", "pydantic", "plotly"}
    assert all(f" {c} " in done.stdout for c in ("search", "train", "evaluate", "report", "schema"))
    seconds = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    assert seconds < 1.5


def test_a_pipe_that_closes_early_is_no_traceback():
    command = f"{sys.executable} -m wiry.cli schema | head -c 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("{", "")
