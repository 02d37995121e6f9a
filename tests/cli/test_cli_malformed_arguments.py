"""Malformed arguments: exit code 2, one line on standard error, never a traceback.

Everything runs in this process. What would start work is replaced by `Started`, so a mutation that
happens to be valid costs nothing and is discarded. A traceback is an exception out of `run`.
"""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cli.malformed import BASE, JUNK, QUIET, Started, call, check_refused, refused, show

pytestmark = pytest.mark.usefixtures("no_work")


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
        "--version",
        "--eps",
        "--norm",
        "--split",
        "--num-samples",
        "--model",
        "--model-args",
        "--weights",
        "--mean",
        "--std",
        "--data",
        "--skip-certified",
        "--measure",
        "--against",
        "--claim",
        "--protocol",
        "--card",
        "--batch-size",
        "--seed",
        "--out",
        "--no-page",
        "--quiet",
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
    "evaluate",
    "evaluate .",
    "evaluate absent",
    "evaluate absent.pt2 --data digits --eps 0.1",
    "evaluate absent.onnx --data digits --eps 0.1",
    "evaluate net.safetensors --data digits --eps 0.1",
    "evaluate . --model nets:build",
    "evaluate . --weights net.safetensors",
    "evaluate . --model-args width=3",
    "evaluate . --mean 0.5",
    "evaluate . --mean 0.5 --std 0.5,0.5",
    "evaluate . --mean x --std 1",
    "evaluate . --mean nan --std 1",
    "evaluate . --mean , --std ,",
    "evaluate . --split train",
    "evaluate . --num-samples 0",
    "evaluate . --eps 1/0",
    "evaluate . --batch-size 0",
    "evaluate . --batch-size many",
    "evaluate . --batch-size -1",
    "evaluate . --batch-size " + "9" * 400,
    "evaluate . --seed -1",
    "evaluate . --seed 4294967296",
    "evaluate . --claim x",
    "evaluate . --measure ,",
    "evaluate . --measure clever:",
    "evaluate . --measure clever:num_samples",
    "evaluate . --measure clever:num_samples=[",
    "evaluate . --data :",
    "evaluate . --card venue",
    "evaluate . --card venue=x",
    "evaluate . --card venue=x --card venue=y --protocol robustbench",
    "evaluate . --card venu=x --protocol robustbench",
    "evaluate . --protocol robust-bench",
    "evaluate . --protocol robustbench --attack pgd",
    "evaluate . --protocol robustbench --version plus",
    "evaluate . --protocol robustbench --eps 0.1",
    "evaluate . --protocol robustbench --norm l1",
    "evaluate --model nets --data digits --eps 0.1",
    "evaluate --model nets: --data digits --eps 0.1",
    "evaluate --model not_there:build --data digits --eps 0.1",
    "evaluate --model torch:nothing --data digits --eps 0.1",
    "evaluate --model torch:pi --data digits --eps 0.1",
    "evaluate --model torch.nn:Linear --data digits --eps 0.1",
    "evaluate --model torch.nn:Identity --model-args a --data digits --eps 0.1",
    "evaluate --model torch.nn:Identity --model-args a=1 --model-args a=1 --data digits --eps 0.1",
    "evaluate --model torch.nn:Identity --data digits --eps 0.1",
    "evaluate --model torch.nn:Flatten --data digits",
    "evaluate --model torch.nn:Flatten --eps 0.1",
    "evaluate --model torch.nn:Flatten --data nope --eps 0.1",
    "evaluate --model torch.nn:Flatten --data digits:nope=1 --eps 0.1",
    "evaluate --model torch.nn:Flatten --data absent.npz --eps 0.1",
    "evaluate --model torch.nn:Flatten --data digits --eps 8",
    "evaluate --model torch.nn:Flatten --data digits --eps 0.1 --norm l7",
    "evaluate --model torch.nn:Flatten --data digits --eps 0.1 --attack pgdd",
    "evaluate --model torch.nn:Flatten --data digits --eps 0.1 --attack pgd --version plus",
    "evaluate --model torch.nn:Flatten --data digits --eps 0.1 --attack autoattack --version x",
    "evaluate --model torch.nn:Flatten --data digits --eps 0.1 --attack screened --version plus",
    "evaluate --model torch.nn:Flatten --data digits --eps 0.1 --measure nope",
    "evaluate --model torch.nn:Flatten --data digits --eps 0.1 --measure clever:nope=1",
    "evaluate --model torch.nn:Flatten --data digits --eps 0.1 --stage dense",
    "evaluate --model torch.nn:Flatten --data digits --eps 0.1 --weights absent.safetensors",
    "evaluate --model torch.nn:Flatten --data digits --eps 0.1 --weights .",
    "evaluate --model torch.nn:Flatten --data digits --eps 0.1 --mean 0,0 --std 1,1",
    "evaluate --model torch.nn:Flatten --data digits --eps 0.1 --mean 0 --std 0",
    "evaluate --model torch.nn:Flatten --data digits --eps 0.1 --against absent",
    "evaluate --model torch.nn:Flatten --data digits --eps 0.1 --claim 2",
    "evaluate --model torch.nn:Flatten --data digits --eps 0.1 --claim nan",
    "evaluate --model torch.nn:Flatten --data digits --eps 0.1 --claim -0.1",
    "evaluate --model torch.nn:Flatten --data digits --eps 0.1 --norm l2 --skip-certified",
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
