"""What the tests of malformed input share: a recipe to mutate, junk, and what a refusal is."""

import contextlib
import io
import math

from hypothesis import HealthCheck, assume, settings

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


def show(folder, content):
    path = folder / "tiny.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return ["show", path]
