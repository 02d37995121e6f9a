"""Write a network in a format, ask the file, and put it in its place with a card, or leave nothing.

Files are made in a folder of their own beside their place and moved there one after the other when
everything is known of them. Which network and which images is for the command.
"""

import contextlib
import dataclasses
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wiry.core.errors import UserError
from wiry.core.files import checksum, write_atomic, write_json
from wiry.core.registry import registry
from wiry.core.run import provenance
from wiry.evaluation.cost import cost
from wiry.evaluation.progress import Progress
from wiry.export.artifact import Format, Subject
from wiry.export.export_card import card_text
from wiry.export.outside import nonzeros
from wiry.export.shrink import shrink
from wiry.export.verify import Images, verify


@dataclasses.dataclass(frozen=True)
class Order:
    """What is to be written.

    Attributes:
        format: name of a format.
        output: path of the file.
        dtype: what weights are rounded to, if they are.
        shrink: take dead channels out first.
        overwrite: replace files that are there.
    """

    format: str
    output: Path
    dtype: str | None = None
    shrink: bool = False
    overwrite: bool = False


def write(
    subject: Subject,
    order: Order,
    images: Images | None,
    *,
    name: str,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a network and its card, and return the card.

    Args:
        images: what the file is asked; None: it is not verified, and the card says so.
        name: of the network, for the card.

    Raises:
        UserError: for a format or a type that there is not, a missing extra, a file in the place,
            or a file that does not answer like the network.
    """
    target: Format = registry("format").build({"name": order.format})
    _check(order, target)
    parameters = sum(p.numel() for p in subject.model.parameters())
    smaller = _shrunk(subject) if order.shrink else subject
    order.output.parent.mkdir(parents=True, exist_ok=True)
    with _private_folder(order.output) as folder:
        path = folder / order.output.name
        with warnings.catch_warnings():
            if order.shrink:  # the card says what the warning says
                warnings.filterwarnings("ignore", message="the network was changed since")
            target.write(smaller, path, order.dtype)
        opened, answers = target.open(smaller, path)
        checked = None
        if images is not None:
            rounded = order.dtype is not None
            # against the network as it was given: shrinking is verified with the rest
            checked = verify(subject.model, opened, images, is_rounded=rounded, progress=progress)
        files = sorted(folder.iterdir())
        card: dict[str, Any] = {
            "name": name,
            "format": order.format,
            "dtype": order.dtype or "float32",
            "files": [
                {"name": f.name, "bytes": f.stat().st_size, "sha256": checksum(f)} for f in files
            ],
            "zeros": target.zeros,
            "loading": target.loading.replace("NAME", order.output.name),
            "answers": answers,
            "input_shape": list(subject.input_shape),
            "class_names": list(subject.class_names),
            "cost": cost(smaller.model, smaller.mask, input_shape=subject.input_shape),
            "shrunk": _shrinking(order, parameters, smaller),
            "verification": checked,
            "evaluation": _known(subject.evaluation),
            "recipe": None if subject.recipe is None else subject.recipe.name,
            "provenance": provenance(seed),
        }
        _put(files, order)
    write_json(card_path(order.output, ".json"), card)
    write_atomic(card_path(order.output, ".md"), card_text(card))
    return card


def card_path(output: Path, ending: str) -> Path:
    """Return where the card of an exported file is."""
    return output.with_name(f"{output.name}.card{ending}")


def _check(order: Order, target: Format) -> None:
    if order.dtype is not None and order.dtype not in target.dtypes:
        known = ", ".join(target.dtypes) or "none, it is written as it is"
        raise UserError(f"format {order.format!r} has no --dtype {order.dtype!r}; it has: {known}")
    if order.output.suffix != target.suffix:
        raise UserError(
            f"--output {order.output}: a file of format {order.format!r} ends in {target.suffix}"
        )
    for path in (order.output, order.output.with_suffix(".bin")):
        if path.is_dir():
            raise UserError(f"{path} is a folder; give --output the name of a file")
    if order.output.exists() and not order.overwrite:
        raise UserError(f"{order.output} is there already; --overwrite replaces it")


def _shrunk(subject: Subject) -> Subject:
    model = shrink(subject.model, subject.mask, subject.input_shape).eval()
    return dataclasses.replace(subject, model=model, mask=nonzeros(model), evaluation=None)


def _shrinking(order: Order, parameters: int, smaller: Subject) -> dict[str, int] | None:
    if not order.shrink:
        return None
    left = sum(p.numel() for p in smaller.model.parameters())
    return {"parameters_before": parameters, "parameters_after": left}


def _known(evaluation: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return what is shown of an earlier evaluation."""
    if evaluation is None:
        return None
    keys = ("split", "num_samples", "clean_accuracy", "robust_accuracy", "eps", "norm", "attack")
    return {key: evaluation.get(key) for key in keys}


@contextlib.contextmanager
def _private_folder(output: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}."))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put(files: list[Path], order: Order) -> None:
    for file in sorted(files, key=lambda f: f.name == order.output.name):  # the named one last
        file.chmod(0o644)
        file.replace(order.output.with_name(file.name))
