"""Networks that wiry did not train: built by somebody's own function, normalised, checked.

Files that are whole networks are `program` (torch.export) and `onnx_model`; weights alone are
`weights`. Whatever comes out takes images in [0, 1] and returns logits.
"""

import hashlib
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import prune

from wiry.core.errors import UserError, closest
from wiry.core.mask import Mask, prunable
from wiry.core.rng import global_seed
from wiry.evaluation.judge import answers
from wiry.models.base import Normalize


class Normalized(nn.Module):
    """A network behind a normalisation, so that eps is in pixels.

    Args:
        mean: a number a channel.
        std: a number a channel.

    Raises:
        UserError: if they differ in number or a standard deviation is not positive.
    """

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.normalize, self.network = Normalize(len(mean)), network
        try:
            self.normalize.set_(torch.tensor(mean), torch.tensor(std))
        except ValueError as error:
            raise UserError(f"--mean and --std: {error}") from error

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Return the logits."""
        return self.network(self.normalize(x))

    def prunable(self) -> list[str]:
        """Return the names of the network's prunable weights."""
        return [f"network.{name}" for name in prunable(self.network)]


def build_outside(place: str, arguments: Mapping[str, Any]) -> tuple[nn.Module, str]:
    """Import `package.module:build`, call it and return the network and a digest of its source.

    The working directory is looked at first, as `python -m` does. This runs the code of the
    package. What the function draws from the global generator is the same every time. The digest is
    of the files that define the function and the classes of the network's modules.

    Args:
        place: where the function, class or network is.
        arguments: keyword arguments of the function.

    Raises:
        UserError: if it cannot be imported, raises, or returns something else than a network.
    """
    with global_seed(0, "outside", "import"):
        build = _imported(place)
    if isinstance(build, nn.Module):
        if arguments:
            raise UserError(f"{place} is a network, not a function; leave --model-args out")
        return build, _source_digest(build, type(build))
    if not callable(build):
        raise UserError(
            f"{place} is {type(build).__name__!r}, not a function that builds a network"
        )
    _check_arguments(place, build, arguments)
    try:
        with global_seed(0, "outside"):
            network = build(**arguments)
    except (Exception, SystemExit) as error:  # whatever somebody else's code raises
        raise UserError(f"{place} failed: {_told(error)}") from error
    if not isinstance(network, nn.Module):
        raise UserError(
            f"{place} returned {type(network).__name__!r}; it must return a torch.nn.Module"
        )
    if lazy := [name for name, parameter in network.named_parameters() if is_lazy(parameter)]:
        raise UserError(
            f"{place}: {lazy[0]!r} has no size yet; show the network an image before it is returned"
        )
    return network, _source_digest(network, build)


def _imported(place: str) -> Any:
    module, colon, attribute = place.partition(":")
    if not (module and colon and attribute):
        raise UserError(f"--model {place!r}: write package.module:function, such as nets:build")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(
            f"--model {place!r}: no module {error.name!r} here or among the installed packages"
        ) from error
    except (Exception, SystemExit) as error:  # whatever somebody else's code raises
        raise UserError(f"--model {place!r}: importing {module} failed: {_told(error)}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            names = [name for name in dir(found) if not name.startswith("_")]
            raise UserError(f"--model {place!r}: {module} has no {part!r}{closest(part, names)}")
        found = getattr(found, part)
    return found


def _check_arguments(place: str, build: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    try:
        inspect.signature(build).bind(**arguments)
    except TypeError as error:
        raise UserError(f"{place}: {error}; see --model-args") from error
    except ValueError:  # a function without a signature: it will say so itself
        return


def _told(error: BaseException) -> str:
    """Return an error and the place where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}{where}"


def _source_digest(network: nn.Module, build: Any) -> str:
    files = set()
    for thing in (build, *{type(module) for module in network.modules()}):
        try:
            file = inspect.getsourcefile(thing)
        except (TypeError, OSError):  # built in, or from no file
            continue
        if file is not None and not str(getattr(thing, "__module__", "")).startswith("torch."):
            files.add(file)
    digest = hashlib.sha256()
    for file in sorted(files):
        if Path(file).is_file():
            digest.update(Path(file).read_bytes())
    return digest.hexdigest()


def check_answers(model: nn.Module, x: Float[Tensor, "n c h w"]) -> int:
    """Ask a network about a few images and return how many classes it has.

    Raises:
        UserError: if it cannot take them, or its answer is no table of logits.
    """
    shape = " x ".join(map(str, x.shape[1:]))
    try:
        num_classes = answers(model, x, torch.zeros(len(x), dtype=torch.long))[2]
    except UserError:
        raise
    except Exception as error:  # whatever somebody else's code raises
        raise UserError(
            f"the network cannot take images of {shape} (channels x height x width): {_told(error)}"
        ) from error
    if num_classes < 2:
        raise UserError("the network has one output; attacks need one logit a class, at least 2")
    return num_classes


def settle_masks_(model: nn.Module) -> int:
    """Put the masks of `torch.nn.utils.prune` into the weights, where a zero can be counted.

    Returns:
        How many weights had a mask.
    """
    settled = 0
    for module in model.modules():
        masked = [name.removesuffix("_mask") for name, _ in module.named_buffers(recurse=False)]
        for name in masked:
            if hasattr(module, f"{name}_orig") and prune.is_pruned(module):
                prune.remove(module, name)
                settled += 1
    return settled


def nonzeros(model: nn.Module) -> Mask:
    """Return which prunable weights are not exactly zero; a tensor without zeros is left out."""
    kept = {name: weight.detach() != 0 for name, weight in prunable(model).items()}
    return Mask({name: value for name, value in kept.items() if not bool(value.all())})


def in_batches_of(
    network: Callable[[Tensor], Any], x: Float[Tensor, "n c h w"], num_images: int
) -> Any:
    """Ask a network that only takes batches of one size; the last one is filled up with zeros."""
    if not len(x):
        return network(x.new_zeros(num_images, *x.shape[1:]))[:0]
    missing = -len(x) % num_images
    filled = torch.cat([x, x.new_zeros(missing, *x.shape[1:])]) if missing else x
    answers = [network(part) for part in filled.split(num_images)]
    if not all(isinstance(answer, Tensor) for answer in answers):
        return answers[0]  # no logits: the caller says so
    return torch.cat(answers)[: len(x)]
