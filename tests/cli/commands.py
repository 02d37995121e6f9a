"""What the tests of the command line share: a recipe that trains in a moment, its output."""

import json
from pathlib import Path

import yaml

HOUSE = Path(__file__).parents[2]
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
SEARCH = ["--methods", "one-shot,gradual", "--seeds", "0", "--min-density", "0.5"]
SEARCH += ["--max-drop", "1"]


def write(path, data):
    path.write_text(yaml.safe_dump(data))
    return path


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
