"""Who may import whom: parsed from the source, so a forbidden import fails before its use."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "wiry"
BASE = {"core"}
ALLOWED = {
    "core": set(),
    "attacks": BASE,
    "bounds": BASE,
    "engine": BASE | {"runtime"},
    "data": BASE,
    "models": BASE,
    "sparsify": BASE,
    "objectives": BASE | {"attacks", "bounds"},
    "runtime": BASE | {"export"},
    "train": BASE | {"data", "models", "objectives", "sparsify", "engine"},
    "evaluation": BASE | {"data", "models", "attacks", "bounds", "engine"},
    "export": BASE | {"data", "models", "evaluation", "engine", "runtime"},
    "bench": BASE | {"data", "models", "attacks", "evaluation", "export", "engine", "runtime"},
    "sweep": BASE
    | {"data", "models", "attacks", "sparsify", "train", "evaluation", "export"}
    | {"engine", "runtime"},
    "report": BASE,
}
EVERYTHING = set(ALLOWED) | {
    "console",
    "console_compare",
    "console_evaluate",
    "console_export",
    "console_parse",
    "cli",
    "cli_compare",
    "cli_evaluate",
    "cli_export",
    "cli_inspect",
    "cli_options",
}
TORCH_FREE_CORE = {"wiry.core.errors", "wiry.core.files"}
READER = {"wiry.export.sparse_read"}  # the file format in numpy, which the runtime reads


def imports(path):
    """Return every module a file imports, wherever the statement stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module


@pytest.mark.parametrize(
    "path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE))
)
def test_a_module_imports_only_what_its_room_may(path):
    room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    allowed = ALLOWED.get(room, EVERYTHING) | {room}
    for module in imports(path):
        if module.startswith("wiry."):
            assert module.split(".")[1] in allowed, f"{room} must not import {module}"
        assert not module.startswith("torchvision")
        if room == "report":
            assert module.split(".")[0] != "torch", "report imports no torch"
            assert not module.startswith("wiry.core") or module in TORCH_FREE_CORE
        if room == "runtime":
            assert module.split(".")[0] != "torch", "the runtime imports no torch"
            others = module.startswith("wiry.") and not module.startswith("wiry.runtime")
            assert not others or module in TORCH_FREE_CORE | READER


def test_every_room_has_its_rule():
    rooms = {p.name for p in SOURCE.iterdir() if p.is_dir() and (p / "__init__.py").exists()}
    assert rooms == set(ALLOWED)
