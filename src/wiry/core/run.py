"""A run is a directory.

This file knows its names, its lock and its provenance, and nothing of training.
"""

import datetime
import fcntl
import importlib.metadata
import json
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from wiry.core import dist
from wiry.core.errors import UserError
from wiry.core.files import checksum, read_json, write_atomic, write_json
from wiry.core.recipe import Recipe, Stage, expand, stage_identities
from wiry.core.recipe_file import dump_recipe, load_recipe


class Run:
    """The directory `<out>/<name>-<identity>` of one recipe.

    ```
    recipe.yaml  provenance.json  log.txt
    stages/1-dense/  weights.safetensors  mask.safetensors  metrics.jsonl  resume-*.pt  eval/  DONE
    ```
    """

    def __init__(self, root: Path, recipe: Recipe) -> None:
        self.root, self.recipe, self.stages = root, recipe, expand(recipe)
        self._identities = stage_identities(recipe, self.stages)

    @classmethod
    def of(cls, recipe: Recipe, out: Path) -> "Run":
        """Return the run of a recipe below `out`; nothing is written yet."""
        return cls(out / f"{recipe.name}-{recipe.identity()}", recipe)

    @classmethod
    def open(cls, root: Path) -> "Run":
        """Open a run that exists.

        Raises:
            UserError: if the directory holds no readable recipe.
        """
        if not (root / "recipe.yaml").is_file():
            raise UserError(f"{str(root)!r} is not a run: it has no recipe.yaml")
        run = cls(root, load_recipe(root / "recipe.yaml"))
        named = re.fullmatch(r".*-([0-9a-f]{8})", root.resolve().name)
        if named and named[1] != run.recipe.identity():
            raise UserError(
                f"{root / 'recipe.yaml'} was changed: its identity is {run.recipe.identity()}, the "
                f"folder's {named[1]}. `wiry train` with the original recipe restores it."
            )
        return run

    def create(self, device: str = "cpu") -> None:
        """Write the recipe, and the provenance if it is not there."""
        text, path = dump_recipe(self.recipe), self.root / "recipe.yaml"
        if not path.is_file() or path.read_bytes() != text.encode():
            write_atomic(path, text)
        if not (self.root / "provenance.json").exists():
            write_json(self.root / "provenance.json", provenance(self.recipe.seed, device))

    def stage_dir(self, stage: Stage | str) -> Path:
        """Return the directory of a stage."""
        name = stage if isinstance(stage, str) else stage.name
        position = [s.name for s in self.stages].index(name) + 1
        return self.root / "stages" / f"{position}-{name}"

    def stage_identity(self, stage: Stage) -> str:
        """Return the identity of a stage's result."""
        return self._identities[stage.name]

    def is_done(self, stage: Stage) -> bool:
        """Say whether a stage has finished."""
        return (self.stage_dir(stage) / "DONE").exists()

    def done(self, stage: Stage | str) -> dict[str, Any]:
        """Read a stage's DONE mark.

        Raises:
            UserError: if it is missing, malformed or of another stage.
        """
        path = self.stage_dir(stage) / "DONE"
        mark = read_json(path)
        wanted = self.stage_identity(next(s for s in self.stages if stage in (s, s.name)))
        if not isinstance(mark, dict) or not isinstance(mark.get("files"), dict):
            raise UserError(f"{path} is malformed; delete {path.parent} to train the stage again")
        if mark.get("identity") != wanted:
            raise UserError(
                f"{path} is of another stage (identity {mark.get('identity')!r}, the recipe's is "
                f"{wanted!r}); delete {path.parent} to train the stage again"
            )
        return mark

    def mark_done(self, stage: Stage, summary: dict[str, Any]) -> None:
        """Write the DONE mark.

        Summary, identity and the checksum of every artifact of the stage.
        """
        folder = self.stage_dir(stage)
        paths = sorted(folder.rglob("*.safetensors"))
        files = {path.relative_to(folder).as_posix(): checksum(path) for path in paths}
        write_json(
            folder / "DONE", {**summary, "identity": self.stage_identity(stage), "files": files}
        )

    def verified(self, stage: Stage | str, file: str) -> Path:
        """Return the path of a finished stage's artifact after checking its checksum.

        Raises:
            UserError: if the stage has not finished or the file is missing, changed or cut short.
        """
        folder = self.stage_dir(stage)
        path = folder / file
        expected = self.done(stage)["files"].get(file)
        if expected is None or not path.is_file():
            raise UserError(f"{path} is missing; delete {folder} to train the stage again")
        if checksum(path) != expected:
            raise UserError(
                f"{path} is corrupted: its checksum differs from the one in DONE. "
                f"Delete {folder} to train the stage again."
            )
        return path

    def log(self, text: str) -> None:
        """Append a line with the time to log.txt."""
        with (self.root / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{datetime.datetime.now().isoformat(timespec='seconds')} {text}\n")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for one process.

        Raises:
            UserError: if another process holds it.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UserError(
                    f"run {self.root.name!r} is in use by another process; wait for it or end it"
                ) from error
            yield


def made_with(device: str) -> dict[str, Any]:
    """Return what besides the recipe can change a result's bits; shared stages agree in it."""
    return {
        "wiry": _version("wiry"),
        "torch": torch.__version__,
        "device": device.partition(":")[0],
        "threads": torch.get_num_threads(),
        **({"ranks": dist.world_size()} if dist.is_distributed() else {}),
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def provenance(seed: int, device: str = "cpu") -> dict[str, Any]:
    """Return what a number depends on besides the recipe: versions, commit, device, threads."""
    packages = ("wiry", "torch", "numpy", "safetensors", "pydantic", "scikit-learn")
    versions = {package: _version(package) for package in packages}
    return {
        "versions": versions,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "device": device,
        "threads": torch.get_num_threads(),
        "commit": _commit(),
        "seed": seed,
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read a metrics.jsonl; a last line cut short by a kill is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
