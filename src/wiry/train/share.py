"""Train equal stages once: where finished stages lie, and taking one over from another run."""

import os
import shutil
from pathlib import Path

from wiry.core.files import read_json, write_atomic
from wiry.core.recipe import Stage, kept_lengths
from wiry.core.run import Run
from wiry.train.observe import kept_path


def remember_stage(run: Run, stage: Stage, store: Path) -> None:
    """Note where the stage of this identity lies, for other runs in the store."""
    place = run.stage_dir(stage).relative_to(store).as_posix()
    write_atomic(store / ".stages" / run.stage_identity(stage), place)


def link_equal_stage(run: Run, stage: Stage, store: Path) -> bool:
    """Take over an equal stage that another run in the store has trained.

    Say whether there was one.
    """
    note = store / ".stages" / run.stage_identity(stage)
    source = store / note.read_text(encoding="utf-8") if note.exists() else None
    if source is None or not (source / "DONE").exists():
        return False
    wanted = {kept_path(Path(), k).as_posix() for k in kept_lengths(run.stages, stage.name)}
    done = read_json(source / "DONE")
    if done["identity"] != run.stage_identity(stage) or not wanted <= set(done["files"]):
        return False
    target = run.stage_dir(stage)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(source, temporary, copy_function=_link_or_copy)
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)
    run.log(f"{stage.name}: linked from {source.relative_to(store)}")
    return True


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
