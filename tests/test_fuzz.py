"""Malformed recipes and arguments: exit code 2, one line on standard error, never a traceback.

Everything runs in this process. What would start work is replaced by `Started`, so a mutation that
happens to be valid costs nothing and is discarded. A traceback is an exception out of `run`.
"""

import contextlib
import copy
import io
import math

import pytest
import yaml
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from wiry import cli

BASE = {
    "name": "tiny",
    "data": {"name": "digits", "num_train": 60},
    "model": {"name": "mlp", "widths": [16], "bias": False},
    "seed": 3,
    "stages": [
        {
            "name": "dense",
            "epochs": 2,
            "batch_size": 20,
            "objective": {
                "name": "adversarial",
                "natural_weight": 0.5,
                "attack": {"name": "pgd", "eps": "8/255", "steps": 2, "norm": "linf"},
            },
            "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "decay": "cosine"},
        },
        {
            "name": "sparse",
            "levels": 2,
            "start": {"weights": "dense@3it", "mask": "previous", "score": "previous"},
            "sparsifier": {
                "name": "gradual",
                "sparsity": 0.9,
                "begin": 0.1,
                "num_updates": 5,
                "schedule": "cubic",
                "allocation": {"name": "layerwise"},
                "score": "magnitude",
            },
        },
        {
            "name": "round",
            "start": {"weights": "reinit", "mask": "sparse-1:shuffled"},
            "sparsifier": {"name": "prune-rate", "rate": 0.2, "layer_rates": {"head.weight": 0.1}},
        },
    ],
    "monitor": {"every": "1ep", "splits": ["test"], "attack": {"name": "fgsm"}, "num_samples": 9},
    "evaluation": {"attacks": [{"name": "square", "eps": 0.1}, "apgd"], "split": "test"},
    "plugins": [],
}
NUMBERS = [
    math.nan,
    math.inf,
    -math.inf,
    -1,
    -0.5,
    0,
    1.5,
    95,
    2**63,
    10**30,
    10**400,
    1e308,
    "90%",
    "1/0",
    "1/0.0",
    "1e3",
    "9" * 5000 + "/1",
    "nan",
]
TEXTS = ["", " ", "\x00", "\x85", "a\nb", "\u00fc", "\U0001f600", "../up", "x" * 3000, "previous"]
REFERENCES = [
    "dense@",
    "dense@3",
    "dense:shuffled@1it",
    "@1it",
    ":",
    "previous@-1it",
    "dense@3it@1it",
]
SPECS = [
    {},
    {"name": None},
    {"name": "nope"},
    {"name": ["pgd"]},
    {"name": "pgd", 3: 4},
    {"name": "pgd", None: 1},
    {"name": "pgd", "eps": {"name": "pgd"}},
    {"name": "mlp", "model": 1, "state": 2},
    {"name": {"name": "pgd"}},
    {"nmae": "pgd"},
]
OTHERS = [None, True, [], [None], [[[[]]]], {"a": {"b": {"c": []}}}, {1: 2}, b"\xff", {"x", "y"}]
JUNK = [*NUMBERS, *TEXTS, *REFERENCES, *SPECS, *OTHERS]
QUIET = settings(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


class Started(BaseException):
    """Raised where work would begin: the input was valid after all."""


@pytest.fixture(scope="module", autouse=True)
def _no_work():
    """Nothing trains, measures or writes a page, and thread counts stay."""

    def start(*arguments, **fields):
        raise Started

    patch = pytest.MonkeyPatch()
    patch.setattr("wiry.sweep.search.Search.__init__", start)
    patch.setattr("wiry.core.run.Run.lock", start)
    patch.setattr("torch.set_num_threads", lambda number: None)
    yield
    patch.undo()


def call(arguments):
    """Return exit code, standard output and standard error of a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.run([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


def check_refused(code, out, err):
    """Check for exit code 2 and exactly one line of bearable length."""
    assert code == 2, (code, out[:300], err[:300])
    assert out == ""
    assert err.startswith("wiry: error: ") and err.endswith("\n")
    assert len(err.splitlines()) == 1, err
    assert 15 < len(err) < 4000, len(err)


def refused(arguments):
    """Check that a command refuses its arguments; discard them if they are valid."""
    try:
        result = call(arguments)
    except Started:
        assume(False)
    else:
        assume(result[0] != 0)
        check_refused(*result)


def places(node, path=()):
    """Return the paths of everything inside a recipe."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    found = []
    for key, value in items:
        found.append((*path, key))
        if isinstance(value, dict | list):
            found += places(value, (*path, key))
    return found


PLACES = places(BASE)


def mutate(data, path, how, junk):
    """Change one place of a recipe: replace, delete, misspell, add a key, or nest it in itself."""
    node = data
    for key in path[:-1]:
        if not isinstance(node, dict | list) or (isinstance(node, dict) and key not in node):
            return
        node = node[key] if isinstance(node, dict) or key < len(node) else None
    last = path[-1]
    if not isinstance(node, dict | list):
        return
    if last not in (node if isinstance(node, dict) else range(len(node))):
        return
    if how == "replace":
        node[last] = junk
    elif how == "delete":
        del node[last]
    elif how == "misspell" and isinstance(node, dict):
        node[f"{last}s"] = node.pop(last)
    elif how == "add" and isinstance(node[last], dict):
        node[last]["extra"] = junk
    elif how == "cycle":
        node[last] = data
    elif how == "repeat":
        node[last] = [node[last]] * 3


changes = st.tuples(
    st.sampled_from(PLACES),
    st.sampled_from(["replace", "replace", "delete", "misspell", "add", "cycle", "repeat"]),
    st.sampled_from(JUNK) | st.text(max_size=8) | st.floats() | st.integers(),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def show(folder, content):
    path = folder / "tiny.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return ["show", path]


def test_the_recipe_that_is_mutated_is_valid(folder):
    code, out, err = call(show(folder, yaml.safe_dump(BASE)))
    assert (code, err) == (0, "") and out.startswith("tiny-")


@settings(QUIET, max_examples=300)
@given(st.lists(changes, min_size=1, max_size=3))
def test_a_mutated_recipe_is_refused_in_one_line(folder, chosen):
    data = copy.deepcopy(BASE)
    for path, how, junk in chosen:
        mutate(data, path, how, copy.deepcopy(junk))
    refused(show(folder, yaml.safe_dump(data, allow_unicode=True)))


@pytest.mark.parametrize("path", PLACES, ids=lambda p: ".".join(map(str, p)))
def test_no_junk_at_any_place_of_a_recipe_escapes(path, folder):
    """Every place gets eight kinds of junk, every kind of junk comes to about ten places."""
    first = 8 * PLACES.index(path)
    chosen = [JUNK[(first + number) % len(JUNK)] for number in range(8)]
    num_refused = 0
    for junk in chosen:
        data = copy.deepcopy(BASE)
        mutate(data, path, "replace", copy.deepcopy(junk))
        code, *printed = call(show(folder, yaml.safe_dump(data, allow_unicode=True)))
        if code != 0:
            check_refused(code, *printed)
            num_refused += 1
    assert num_refused > 0


@settings(QUIET, max_examples=200)
@given(st.binary(max_size=60) | st.text(alphabet="{}[]&*!<>|:-?,#%@`'\" \n\tab1", max_size=40))
@example(b"")
@example(b"\xff\xfe\x00\x01")
def test_bytes_that_are_no_recipe_are_refused(folder, content):
    check_refused(*call(show(folder, content)))


def bomb(depth):
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, depth)]
    return "\n".join(lines)


def plain(change):
    return yaml.safe_dump(BASE | change)


TEXT_CASES = {
    "cyclic": "&a {name: tiny, data: *a, model: mlp, stages: [*a]}",
    "cyclic list": "&a [*a]",
    "cyclic stages": "{name: t, data: digits, model: mlp, stages: &s [*s]}",
    "undefined alias": "{name: *nowhere}",
    "bomb": bomb(5),
    "big bomb": bomb(9),
    "bomb as a name": bomb(9) + "\nname: *l8\ndata: digits\nmodel: mlp\nstages: [{name: a}]",
    "python object": "!!python/object/apply:os.system ['exit 1']",
    "python name": "{name: !!python/name:os.system , data: digits, model: mlp}",
    "unknown tag": "{name: !nope x}",
    "set": "!!set {name, data}",
    "ordered map": "!!omap [name: tiny]",
    "bad date": "{name: 2024-13-45}",
    "date": "{name: 2024-12-24, data: digits, model: mlp, stages: [{name: a}]}",
    "two documents": "name: a\n---\nname: b\n",
    "duplicate anchor": "{a: &x 1, b: &x 2, name: *x}",
    "list key": "? [a, b]\n: 1\n",
    "mapping key": "? {a: b}\n: 1\n",
    "deep": "[" * 3000,
    "deep and closed": "[" * 90 + "]" * 90,
    **{f"deep {depth}": "[" * depth + "]" * depth for depth in (150, 200, 300, 900)},
    "deep mapping": "name: " + "{a: " * 90 + "1" + "}" * 90,
    "deep value": plain({}) + "\nextra: " + "[" * 95 + "]" * 95,
    "long number": "{name: t, seed: " + "9" * 5000 + "}",
    "sexagesimal": "{name: 190:20:30, data: digits, model: mlp, stages: [{name: a}]}",
    "tab": "name:\ttiny\n\tdata: digits",
    "utf-16": plain({}).encode("utf-16"),
    "nul": b"name: a\x00b",
    "only a number": "5",
    "only null": "~",
    "only comment": "# nothing",
    "merge of a scalar": "{<<: 3, name: t}",
    "plugin without a name": plain({"plugins": [""]}),
    "relative plugin": plain({"plugins": [".nope"]}),
    "dots as plugin": plain({"plugins": [".."]}),
    "plugin with nul": plain({"plugins": ["a\0b"]}),
    "plugin that is null": plain({"plugins": [None]}),
    "plugin below a module": plain({"plugins": ["math.nope"]}),
    "plugins are a mapping": plain({"plugins": {"a": 1}}),
    "many levels of one name": plain({"stages": [{"name": "a"}, {"name": "a", "levels": 1}]}),
    "level collides": plain({"stages": [{"name": "a-2"}, {"name": "a", "levels": 3}]}),
    "refers to itself": plain({"stages": [{"name": "a", "start": {"weights": "a"}}]}),
    "stage is called previous": plain(
        {"stages": [{"name": "previous"}, {"name": "b", "start": {"weights": "previous"}}]}
    )
    + "\nx: 1",
}


@pytest.mark.parametrize("case", TEXT_CASES)
def test_a_malformed_file_is_refused_in_one_line(case, folder):
    check_refused(*call(show(folder, TEXT_CASES[case])))


@pytest.mark.parametrize("name", ["", ".", "/", "/dev/null", "absent.yaml", "a\0b", "n" * 300])
def test_a_path_that_is_no_recipe_is_refused(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    for command in ("show", "train", "search"):
        check_refused(*call([command, name]))


OVERRIDES = [
    "",
    "=",
    "=1",
    "name",
    "name=[",
    "name=2024-13-45",
    "name=" + "[" * 3000,
    "name=" + "9" * 5000,
    "name=&a [*a]",
    "name=!!python/object:os.system x",
    "stages.9.epochs=1",
    "stages.-1.epochs=1",
    "stages.\u00b2.epochs=1",
    "stages." + "9" * 5000 + "=1",
    "stages.x=1",
    "stages=1",
    "stages.0=1",
    "stages.0.epochs.deeper=1",
    "stages.0.objective.attack.eps=90%",
    "stages.0.sparsifier.sparsity=95",
    "data..name=1",
    ".=1",
    "..=",
    "\x00=1",
    "seed.x=1",
    "modle=mlp",
    "model=cnn",
    "stages.0.epochs=nan",
    "stages.0.epochs=.nan",
]


@pytest.mark.parametrize("override", OVERRIDES)
def test_a_bad_override_is_refused_in_one_line(override, folder):
    path = show(folder, yaml.safe_dump(BASE))[1]
    for command in ("show", "train", "search"):
        check_refused(*call([command, path, "--set", override]))


words = (
    st.sampled_from(["--nope", "-x", "--set", "--eps=", "--out", "--json=3", "--", "-", "---"])
    | st.sampled_from([str(junk)[:200] for junk in JUNK])
    | st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=6)
)
OPTIONS = {
    "search": [
        "--data",
        "--model",
        "--eps",
        "--norm",
        "--methods",
        "--max-drop",
        "--min-clean",
        "--min-robust",
        "--min-density",
        "--seeds",
        "--sparse-epochs",
        "--budget",
        "--workers",
        "--set",
        "--device",
        "--json",
    ],
    "train": ["--set", "--device", "--threads", "--seeds", "--workers", "--json", "--out"],
    "evaluate": [
        "--stage",
        "--attack",
        "--eps",
        "--norm",
        "--split",
        "--num-samples",
        "--threads",
        "--device",
        "--json",
    ],
    "report": ["--figures", "--latex", "--csv"],
    "list": ["--plugin"],
    "show": ["--set"],
    "schema": ["--nope"],
}


@pytest.mark.parametrize("command", OPTIONS)
def test_malformed_arguments_are_refused_in_one_line(command, folder, monkeypatch):
    monkeypatch.chdir(folder)
    pairs = st.tuples(st.sampled_from(OPTIONS[command]), words)

    @settings(QUIET, max_examples=200)
    @given(st.lists(words | pairs, min_size=1, max_size=4))
    def check(chosen):
        arguments = [a for part in chosen for a in ([part] if isinstance(part, str) else part)]
        refused([command, *arguments])

    check()


WRONG_OPTIONS = [
    "search --workers -1",
    "search --workers x",
    "search --seeds 0,0",
    "search --seeds -1",
    "search --seeds 4294967296",
    "search --seeds ,",
    "search --seeds " + "9" * 5000,
    "search --methods ,",
    "search --methods one-shot,one-shot",
    "search --methods one-sho",
    "search --max-drop 2",
    "search --max-drop nan",
    "search --max-drop -0.1",
    "search --max-drop 0.1 --min-clean 0.5",
    "search --min-clean 95",
    "search --min-robust inf",
    "search --min-density 0",
    "search --min-density 1",
    "search --min-density nan",
    "search --sparse-epochs -1",
    "search --sparse-epochs 99999999",
    "search --eps 0.1/0",
    "search --eps nan",
    "search --eps inf",
    "search --eps -1",
    "search --eps 8",
    "search --eps [1]",
    "search --norm l3",
    "search --budget 0",
    "search --budget -5m",
    "search --budget 5d",
    "search --budget nan",
    "search --budget " + "9" * 400,
    "search --data nope",
    "search --model nope",
    "search --device nope",
    "search --device cuda:99",
    "search --device mps",
    "train RECIPE --threads 0",
    "train RECIPE --threads -1",
    "train RECIPE --threads 99999999999999999999",
    "train RECIPE --threads 1000000",
    "train RECIPE --device cuda:99",
    "train RECIPE --seeds 0,0",
    "train RECIPE --seeds -1",
    "train RECIPE --seeds 0,1 --workers -1",
    "train RECIPE --workers 99999999999",
    "train RECIPE RECIPE",
    "evaluate RECIPE",
    "evaluate . --split train",
    "evaluate . --num-samples 0",
    "evaluate . --eps 1/0",
    "report .",
    "report RECIPE",
    "report",
    "list stages",
    "list --plugin nope",
    "list --plugin=",
    "list --plugin .",
    "list ''",
    "show",
    "schema extra",
]


@pytest.mark.parametrize("line", WRONG_OPTIONS, ids=lambda line: line[:50])
def test_a_wrong_value_is_refused_before_anything_starts(line, folder, monkeypatch):
    monkeypatch.chdir(folder)
    path = str(show(folder, yaml.safe_dump(BASE))[1])
    try:
        result = call([path if w == "RECIPE" else w.strip("'") for w in line.split()])
    except Started:
        pytest.fail("accepted")
    check_refused(*result)


@pytest.mark.parametrize("command", ["search", "train"])
def test_a_device_that_cannot_compute_is_refused(command, folder):
    try:
        result = call([command, show(folder, yaml.safe_dump(BASE))[1], "--device", "meta"])
    except Started:
        pytest.fail("accepted")
    check_refused(*result)
