"""What the pages say is tried out: code blocks, examples, commands, files to copy, links."""

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import wiry
from wiry.bench.subject import Subject
from wiry.cli import run
from wiry.core.errors import UserError
from wiry.core.mask import Mask
from wiry.core.recipe import Stage
from wiry.core.recipe_file import load_recipe, parse_recipe
from wiry.core.registry import kinds, registry
from wiry.core.run import Run
from wiry.data.base import build_dataset
from wiry.export import artifact
from wiry.export.verify import Images
from wiry.export.write import Order, write
from wiry.models.base import build_model
from wiry.sparsify.plan import plan
from wiry.sweep.outcome import SHELL_FIELDS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ADDING = ROOT / "docs" / "adding.md"
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
FILE = re.compile(
    r"`((?:src|tests|docs|examples|recipes|benchmarks)/[\w./-]+|\w+\.(?:md|txt|toml|yml|cff))`"
)
MADE = {"mine.yaml", "card.md"}  # files that the reader makes or wiry writes
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(text, language):
    """Return the fenced code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(text):
    """Return the `wiry ...` lines of shell blocks as argument lists, comments left out."""
    lines = "\n".join(blocks(text, "sh") + blocks(text, "text")).splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("wiry ")]


def sections():
    """Return (kind, module text, recipe text) for each section of adding.md that has a module."""
    found = []
    for section in ADDING.read_text(encoding="utf-8").split("\n## ")[1:]:
        if modules := blocks(section, "python"):
            kind = section.partition("\n")[0].partition(" ")[2].replace(" ", "")
            recipes = blocks(section, "yaml")
            found.append((kind, modules[0], recipes[0] if recipes else None))
    return found


@pytest.fixture
def registries_kept():
    """Take out of the registries, after the test, what it put in."""
    before = {kind: (registry(kind).names(), dict(registry(kind)._factories)) for kind in kinds()}
    yield
    for kind, (_, factories) in before.items():
        registry(kind)._factories.clear()
        registry(kind)._factories.update(factories)


@pytest.mark.parametrize("name", wiry.__all__)
def test_every_public_name_is_there(name):
    assert getattr(wiry, name) is not None


def test_public_names_are_few_listed_and_documented():
    assert len(wiry.__all__) <= 26
    assert set(dir(wiry)) == {*wiry.__all__, "__version__"}
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", wiry.__version__)
    api = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert {name for name in wiry.__all__ if f"`{name}" not in api} == set()
    with pytest.raises(AttributeError, match="no attribute 'evaluat'"):
        _ = wiry.evaluat  # type: ignore[attr-defined]


def test_importing_wiry_imports_no_torch():
    code = "import sys, wiry; assert 'torch' not in sys.modules and 'pydantic' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("page", [p for p in PAGES if p != ADDING], ids=lambda page: page.name)
def test_python_blocks_run_one_after_the_other(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    for number, block in enumerate(blocks(page.read_text(encoding="utf-8"), "python"), start=1):
        exec(compile(block, f"{page.name}, python block {number}", "exec"), names)


@pytest.mark.parametrize("page", [p for p in PAGES if p != ADDING], ids=lambda page: page.name)
def test_recipes_on_a_page_are_recipes(page):
    for block in blocks(page.read_text(encoding="utf-8"), "yaml"):
        parse_recipe(yaml.safe_load(block))


@each_page
def test_commands_on_a_page_parse(page, capsys):
    for arguments in commands(page.read_text(encoding="utf-8")):
        quick = arguments[0] in ("schema", "list", "show") and "--plugin" not in arguments
        needed = [a for a in arguments[1:] if a.endswith(".yaml")]
        if quick and all((ROOT / name).exists() for name in needed):
            arguments = [str(ROOT / a) if a in needed else a for a in arguments]
        else:
            options = {a.partition("=")[0] for a in arguments if a.startswith("--")}
            assert run([arguments[0], "--help"]) == 0, arguments
            assert options <= set(re.findall(r"--[a-z-]+", capsys.readouterr().out)), arguments
            continue
        assert run(arguments) == 0, arguments


@each_page
def test_links_and_files_named_on_a_page_exist(page):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        if path.startswith("http"):
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {link}"
        if anchor:
            heads = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in heads}
    for name in set(FILE.findall(text)) - MADE:
        assert any((folder / name).exists() for folder in (ROOT, page.parent)), (
            f"{page.name} names {name}"
        )


@pytest.mark.parametrize(("kind", "module", "recipe"), sections(), ids=[s[0] for s in sections()])
def test_a_file_of_adding_works(
    kind, module, recipe, tmp_path, monkeypatch, capsys, registries_kept
):
    name = f"my_{kind}"
    (tmp_path / f"{name}.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    try:
        assert run(["list", kind, "--plugin", name]) == 0
        listed = re.search(r"^  (my-[a-z-]+) +\S", capsys.readouterr().out, re.MULTILINE)
        assert listed, f"`wiry list --plugin {name}` shows no {kind} of the page"
        if kind == "engine":
            return _check_engine(listed[1], tmp_path)
        if kind == "format":
            return _check_format(listed[1], tmp_path)
        if recipe is None:
            loaded = _recipe_of_method(listed[1])
        else:
            assert listed[1] in recipe and f"plugins: [{name}]" in recipe
            Path("recipe.yaml").write_text(recipe)
            loaded = load_recipe(Path("recipe.yaml"))
        Path("run.yaml").write_text(yaml.safe_dump(loaded.model_dump(exclude_defaults=True)))
        assert run(["train", "run.yaml"]) == 0
        done = Run.of(loaded, Path("runs"))
        assert done.stages and all(done.is_done(stage) for stage in done.stages)
    finally:
        sys.modules.pop(name, None)
        importlib.invalidate_caches()


def _check_format(name, folder):
    """A network is written in the page's format, and the file answers like it."""
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3)).eval()
    images = torch.rand(1, 1, 2, 2)
    subject = artifact.Subject(model, Mask(), (1, 2, 2), (), None, None, images)
    x = torch.rand(3, 1, 2, 2)
    suffix = registry("format").build({"name": name}).suffix
    asked = Images(x, model(x).argmax(1), (), 0)
    card = write(subject, Order(name, folder / f"net{suffix}"), asked, name="net")
    assert card["verification"]["clean_after"] == 1


def _check_engine(name, folder):
    """Check that an engine answers like the network."""
    model = build_model("mlp", input_shape=(1, 4, 4), num_classes=3, seed=0).eval()
    subject = Subject(model, Mask(), (1, 4, 4))
    engine = registry("engine").build(name)
    path, images = engine.write(subject, folder), subject.random_images(2)
    answer = engine.open(path, (1, 4, 4), batch_size=2, num_threads=1)
    expected = model(images).detach().numpy()
    np.testing.assert_allclose(answer(images.numpy()), expected, rtol=1e-4, atol=1e-5)


def test_the_data_set_from_a_file_on_the_page_of_adding_works(
    tmp_path, monkeypatch, registries_kept
):
    section = ADDING.read_text(encoding="utf-8").partition("\n## A data set\n")[2]
    exec(compile(blocks(section, "python")[1], "adding.md", "exec"), {"__name__": "page"})
    (tmp_path / "my-photos").mkdir()
    noise = np.random.default_rng(0)
    x, y = noise.integers(0, 256, (40, 3, 8, 8), dtype=np.uint8), np.arange(40) % 2
    monkeypatch.setenv("WIRY_DATA", str(tmp_path))
    with pytest.raises(UserError, match="has no my-photos"):
        build_dataset("my-photos")
    np.savez(tmp_path / "my-photos" / "photos.npz", x=x, y=y)
    spec = {"name": "my-photos", "num_validation": 10, "num_test": 10, "num_train": 12}
    dataset = build_dataset(spec)
    assert [len(dataset.split(s)[0]) for s in ("train", "validation", "test")] == [12, 10, 10]
    assert dataset.test_y.bincount().tolist() == [5, 5]
    assert 0 <= dataset.train_x.min() and 0.9 < dataset.train_x.max() <= 1


def test_the_fields_for_scripts_are_on_the_page_of_the_search():
    text = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")
    assert {field for field in SHELL_FIELDS if f"`{field}`" not in text} == set()


def test_adding_has_a_section_for_each_kind():
    assert {kind for kind, _, _ in sections()} == set(kinds())


def test_the_examples_run_in_their_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shown = {}
    for path in EXAMPLES:
        arguments = ["1"] if "EPOCHS" in path.read_text(encoding="utf-8") else []
        monkeypatch.setattr(sys, "argv", [path.name, *arguments])
        exec(compile(path.read_text(encoding="utf-8"), path, "exec"), {"__name__": "__main__"})
        shown[path.name] = capsys.readouterr().out
    assert len(shown) >= 3 and all(shown.values())
    assert "linked" in next(tmp_path.glob("runs/example-prune-*/log.txt")).read_text()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_short_and_explains_itself(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) < 80 and lines[0].startswith('"""')


def _recipe_of_method(method):
    dense = Stage(name="dense", epochs=1, batch_size=64)
    stages = [s.model_dump(exclude_defaults=True) for s in plan(method, [0.5], dense, 1)]
    model = {"name": "mlp", "widths": [16]}
    return parse_recipe({"name": "try", "data": "digits", "model": model, "stages": stages})
