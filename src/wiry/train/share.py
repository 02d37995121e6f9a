"""Train equal stages once: where finished stages lie, and taking one over from another run."""

import os
import shutil
from pathlib import Path

from wiry.core.files import checksum, read_json, write_atomic
from wiry.core.recipe import Stage, kept_lengths
from wiry.core.run import Run, made_with
from wiry.train.observe import kept_path


def remember_stage(run: Run, stage: Stage, store: Path) -> None:
    """Note where the stage of this identity lies, for other runs in the store."""
    place = run.stage_dir(stage).relative_to(store).as_posix()
    write_atomic(store / ".stages" / run.stage_identity(stage), place)


def link_equal_stage(run: Run, stage: Stage, store: Path, device: str) -> bool:
    """Take over an equal stage that another run in the store has trained.

    Say whether there was one.
    """
    note = store / ".stages" / run.stage_identity(stage)
    source = store / note.read_text(encoding="utf-8") if note.exists() else None
    if source is None or not (source / "DONE").exists():
        return False
    wanted = {kept_path(Path(), k).as_posix() for k in kept_lengths(run.stages, stage.name)}
    done = read_json(source / "DONE")
    if not isinstance(done, dict) or done.get("identity") != run.stage_identity(stage):
        return False
    files = done.get("files", {})
    if done.get("made_with") != made_with(device) or not wanted <= set(files):
        return False
    if any(not (source / f).is_file() or checksum(source / f) != c for f, c in files.items()):
        return False
    target = run.stage_dir(stage)
    temporary = run.root / ".linking"  # the run is locked, so it is ours
    shutil.rmtree(temporary, ignore_errors=True)
    for file in (*files, "metrics.jsonl", "DONE"):
        (temporary / file).parent.mkdir(parents=True, exist_ok=True)
        _link_or_copy(source / file, temporary / file)
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary.rename(target)
    run.log(f"{stage.name}: linked from {source.relative_to(store)}")
    return True


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
