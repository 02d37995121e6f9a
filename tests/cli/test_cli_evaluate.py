"""`wiry evaluate` on networks that wiry did not train, from files that a stranger would have."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from tests.cli.commands import error_line, only_json
from torch import nn

from wiry.cli import run
from wiry.data.base import build_dataset

SOURCE = """
import torch
from torch import nn

print("theirs is imported")

class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3, stride=2)
        self.norm = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width * 9, 10)

    def forward(self, x):
        return self.fc(torch.relu(self.norm(self.conv(x))).flatten(1))

def build(width=8):
    return Net(width)
"""
MEAN, STD = 0.3, 0.4
FAST = ["--attack", "pgd", "--eps", "0.06", "--num-samples", "40", "--no-page", "--json"]


class Whole(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network((x - MEAN) / STD)


def trained(net, x, y):
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(60):
        loss = nn.functional.cross_entropy(net((x - MEAN) / STD), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        net.fc.weight[:, ::2] = 0
    return net.eval()


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """A folder with a package, its weights, an exported program and the test images."""
    folder = tmp_path_factory.mktemp("theirs")
    (folder / "theirs").mkdir()
    (folder / "theirs" / "__init__.py").touch()
    (folder / "theirs" / "nets.py").write_text(SOURCE)
    namespace = {}
    exec(SOURCE.replace("print", "str"), namespace)
    data = build_dataset("digits")
    torch.manual_seed(0)
    net = trained(namespace["build"](), data.train_x[:600], data.train_y[:600])
    safetensors.torch.save_file(net.state_dict(), folder / "net.safetensors")
    torch.save({f"module.{n}": t for n, t in net.state_dict().items()}, folder / "net.pt")
    x, y = data.test_x[:60], data.test_y[:60]
    np.savez(folder / "images.npz", x=x.numpy(), y=y.numpy())
    np.savez(folder / "last.npz", x=x.permute(0, 2, 3, 1).double().numpy(), y=y.numpy())
    shapes = ({0: torch.export.Dim("n")},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(Whole(net).eval(), (x[:2],), dynamic_shapes=shapes)
        torch.export.save(program, folder / "net.pt2")
    return folder


@pytest.fixture
def here(theirs, tmp_path, monkeypatch):
    """The folder as working directory; runs go to one of their own; the package is forgotten."""
    monkeypatch.chdir(theirs)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path / "runs"
    for name in [name for name in sys.modules if name.partition(".")[0] == "theirs"]:
        del sys.modules[name]


BUILT = ["--model", "theirs.nets:build", "--mean", str(MEAN), "--std", str(STD)]
BUILT += ["--weights", "net.safetensors", "--data", "images.npz"]


def judge(capsys, out, *arguments):
    assert run(["evaluate", *arguments, "--out", str(out)]) == 0
    return only_json(capsys)


def verdicts(record):
    with np.load(Path(record["files"]["record"]).with_suffix(".npz")) as table:
        return table["clean_correct"].tolist(), table["robust"].tolist()


def test_a_package_with_weights_a_program_and_layouts_agree(here, capsys):
    first = judge(capsys, here, *BUILT, *FAST)
    assert first["num_samples"] == 40 and first["clean_accuracy"] > 0.5
    assert first["robust_accuracy"] < first["clean_accuracy"]
    assert first["cost"]["sparsity"] == pytest.approx(360 / (720 + 72), abs=0.001)
    last = judge(capsys, here, *[a.replace("images", "last") for a in BUILT], *FAST)
    prefixed = judge(capsys, here, *[a.replace("safetensors", "pt") for a in BUILT], *FAST)
    program = judge(capsys, here, "net.pt2", "--data", "images.npz", *FAST)
    assert verdicts(first) == verdicts(last) == verdicts(prefixed) == verdicts(program)
    assert first["cost"]["nonzeros"] == program["cost"]["nonzeros"]
    places = {Path(r["files"]["record"]) for r in (first, last, prefixed, program)}
    assert len(places) == 3  # the same weights and images, under a prefix, are the same question
    assert all(place.is_relative_to(here) for place in places)


def test_a_second_call_reads_the_record_and_another_question_has_its_own(here, capsys):
    first = judge(capsys, here, *BUILT, *FAST)
    place = Path(first["files"]["record"])
    before = place.stat().st_mtime_ns
    assert judge(capsys, here, *BUILT, *FAST) == first
    assert place.stat().st_mtime_ns == before
    other = judge(capsys, here, *BUILT, *FAST, "--seed", "1")
    assert other["seed"] == 1 and other["files"]["record"] != first["files"]["record"]
    wide = judge(capsys, here, *BUILT[:2], "--model-args", "width=4", *BUILT[6 + 2 :], *FAST)
    assert wide["cost"]["prunable"] == 36 + 360


def test_without_weights_the_user_is_told_and_own_images_need_no_normalisation(here, capsys):
    arguments = [*BUILT[:2], "--data", "digits", *FAST[:-1], "--out", str(here)]
    assert run(["evaluate", *arguments]) == 0
    out, err = capsys.readouterr()
    assert "no --weights" in err and "theirs is imported" in err
    assert "theirs.nets-build: 40 test images" in out and "Record:" in out
    assert run(["evaluate", *arguments, "--quiet"]) == 0
    assert "no --weights" not in capsys.readouterr().err


def test_the_prefix_that_was_taken_off_is_said(here, capsys):
    arguments = [a.replace("safetensors", "pt") for a in BUILT]
    assert run(["evaluate", *arguments, *FAST, "--out", str(here)]) == 0
    assert "prefix 'module.'" in capsys.readouterr().err


def test_a_page_of_a_foreign_network_is_written_and_named(here, capsys):
    arguments = [a for a in FAST if a != "--no-page"]
    made = judge(capsys, here, *BUILT, *arguments)
    page = Path(made["files"]["page"])
    assert page.parent == Path(made["files"]["record"]).parent
    assert "theirs.nets-build" in page.read_text()


def test_measures_with_fields_are_in_the_record(here, capsys):
    made = judge(capsys, here, *BUILT, *FAST, "--measure", "certified,clever:num_samples=2")
    assert [row["measure"] for row in made["measures"]] == ["certified", "clever"]
    assert made["measures"][1]["spec"]["num_samples"] == 2


def test_two_networks_are_compared_image_by_image(here, capsys):
    made = judge(capsys, here, *BUILT, *FAST, "--against", "net.pt2")
    flips, matrix = made["against"]["flips"], made["against"]["transfer"]
    for kind in ("clean", "robust"):  # the same network twice
        assert flips[kind]["num_lost"] == flips[kind]["num_gained"] == 0
    assert matrix["accuracy"][0] == matrix["accuracy"][1]
    folder = Path(made["files"]["record"]).parent
    assert json.loads((folder / "transfer.json").read_text()) == matrix
    assert (folder / "flips.json").is_file()


def test_an_onnx_file_is_a_black_box_only(here, theirs, capsys):
    for name in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(name)
    program = torch.export.load(theirs / "net.pt2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(program, f=str(theirs / "net.onnx"), verbose=False)
    common = ["net.onnx", "--data", "images.npz", "--eps", "0.06", "--num-samples", "2"]
    made = judge(capsys, here, *common, "--no-page", "--json")
    assert [row["spec"]["name"] for row in made["attacks"]] == ["square"]
    assert (
        "Black box only" in {f["check"]: f for f in made["findings"]}["black-box-only"]["message"]
    )
    for attack in ("autoattack", "screened", "pgd"):
        assert run(["evaluate", *common, "--attack", attack]) == 2
        line = error_line(capsys)
        assert "--attack square" in line and "--model" in line
    assert run(["evaluate", *common, "--measure", "lipschitz", "--out", str(here)]) == 2
    assert "without gradients" in capsys.readouterr().err


CARD = ["--card", "venue=NeurIPS 2020", "--card", "additional_data=false"]


def test_a_robustbench_card_is_filled_in_and_what_is_missing_is_listed(here, capsys):
    arguments = [*BUILT, "--protocol", "robustbench", "--num-samples", "3", "--no-page", *CARD]
    assert run(["evaluate", *arguments, "--out", str(here), "--json"]) == 0
    out, err = capsys.readouterr()
    made = json.loads(out)
    assert made["protocol"] == "AutoAttack (standard)"
    assert made["eps"] == pytest.approx(8 / 255)
    card = json.loads(Path(made["files"]["card"]).read_text())
    assert card["venue"] == "NeurIPS 2020" and card["eps"] == "8/255"
    assert card["clean_acc"] == f"{100 * made['clean_accuracy']:.2f}"
    assert card["authors"] is None and "authors is missing" in err
    assert "first 3 test images" in card["footnote"] and "first 3 test images" in err


def test_a_card_of_the_pruning_benchmark_says_that_the_sparsity_is_none_of_its_own(here, capsys):
    arguments = [*BUILT, "--protocol", "adversarial-pruning-benchmark", "--num-samples", "3"]
    arguments += ["--card", "ap_method=Ours_We2026Title", "--card", "architecture=resnet18"]
    assert run(["evaluate", *arguments, "--no-page", "--out", str(here), "--json"]) == 0
    out, err = capsys.readouterr()
    made = json.loads(out)
    assert made["eps"] == 0.031 and made["measures"][0]["measure"] == "security-curve"
    card = json.loads(Path(made["files"]["card"]).read_text())
    assert card["model_key"] is None and "the benchmark compares 90, 95, 99 %" in err
    assert card["security_curve"]["x"]


def test_cards_of_a_run_do_not_mix_with_its_evaluations(tiny, capsys):
    _, _, made = tiny
    arguments = [str(made.root), "--protocol", "robustbench", "--num-samples", "4", "--json"]
    assert run(["evaluate", *arguments]) == 0
    found = only_json(capsys)
    card = Path(found["files"]["card"])
    assert card.parent.name == "cards" and card.parent.parent.name == "eval"
    assert Path(found["files"]["page"]) == made.root / "report.html"


def test_a_killed_evaluation_is_continued_by_the_same_command(here, theirs, capsys):
    arguments = ["evaluate", "net.pt2", "--data", "images.npz", "--eps", "0.06", "--no-page"]
    arguments += ["--out", str(here), "--batch-size", "4", "--json"]
    stop = "import signal, os; signal.signal(signal.SIGALRM, lambda *a: os.kill(os.getpid(), 2));"
    stop += "signal.setitimer(signal.ITIMER_REAL, 1.0);"
    code = (
        f"from wiry.cli import run; import wiry.sweep.evaluate_command; {stop} run({arguments!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=theirs, capture_output=True, text=True, timeout=60
    )
    if done.stdout:
        pytest.skip("this machine was done before it could be stopped")
    assert "interrupted; the same command continues" in done.stderr
    assert "Traceback" not in done.stderr
