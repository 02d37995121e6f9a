"""What is known of a network beside its tensors: how it was built, for what, and how it was judged.

`sparse_file` puts it into a file. A model spec goes in only if the network that it builds answers
like the one that is saved.
"""

import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from wiry.core.errors import UserError
from wiry.core.recipe import Recipe
from wiry.core.rng import stream
from wiry.engine.lower import lower
from wiry.evaluation.judge import device_of, frozen
from wiry.models.base import Normalize, build_model

_TOLERANCE = 1e-4  # relative to the largest logit: another order of summation, not another network


def make_facts(
    model: nn.Module,
    state: Mapping[str, Tensor],
    *,
    input_shape: Sequence[int],
    recipe: Recipe | Mapping[str, Any] | None,
    class_names: Sequence[str] | None,
    evaluation: Any,
) -> dict[str, Any]:
    """Return what a file says of a network, as plain data (see `SparseContent.facts`).

    Raises:
        UserError: if input shape or class names do not fit the network.
    """
    facts = _built_facts(model, state, input_shape)
    num_classes = facts["num_classes"]
    if class_names is not None and num_classes not in (None, len(class_names)):
        raise UserError(f"{len(class_names)} class names for a network of {num_classes} classes")
    if isinstance(recipe, Recipe):
        recipe = recipe.model_dump(exclude_defaults=True)
    if not isinstance(evaluation, Mapping | None):
        evaluation = evaluation.to_data()
    return (
        facts
        | {
            "class_names": None if class_names is None else [str(name) for name in class_names],
            "normalisation": _normalisation(model),
            "recipe": None if recipe is None else dict(recipe),
            "evaluation": None if evaluation is None else dict(evaluation),
            "wiry": version("wiry"),
        }
        | _graph(model, facts["input_shape"])
    )


def _graph(model: nn.Module, input_shape: Sequence[int]) -> dict[str, Any]:
    """Return the network's operations for `wiry.Runtime`, or why it has none."""
    try:
        return {"graph": lower(model, input_shape).graph.to_data(), "graph_fault": None}
    except UserError as error:
        return {"graph": None, "graph_fault": str(error)}


def _built_facts(
    model: nn.Module, state: Mapping[str, Tensor], input_shape: Sequence[int]
) -> dict[str, Any]:
    """Return model spec, input shape and number of classes; the spec only if it still holds."""
    shape = list(input_shape)
    if not shape or not all(isinstance(n, int) and n > 0 for n in shape):
        raise UserError(f"input_shape must be positive integers such as (3, 32, 32), got {shape}")
    built = getattr(model, "built_from", None)
    if built is None:
        return {"model": None, "input_shape": shape, "num_classes": None}
    if shape != built["input_shape"]:
        raise UserError(
            f"input_shape is {tuple(shape)}, but the network was built for images of "
            f"{tuple(built['input_shape'])}"
        )
    if _answers_alike(model, build_model(**_arguments(built), seed=0), state, shape):
        return dict(built)
    warnings.warn(
        "the network was changed since wiry built it, so the file holds no model spec: wiry.load "
        "cannot build it, load_state reads its tensors",
        stacklevel=4,
    )
    return {"model": None, "input_shape": shape, "num_classes": None}


def _arguments(built: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "spec": built["model"],
        "input_shape": tuple(built["input_shape"]),
        "num_classes": built["num_classes"],
    }


@torch.no_grad()
def _answers_alike(
    model: nn.Module, other: nn.Module, state: Mapping[str, Tensor], shape: Sequence[int]
) -> bool:
    """Say whether a network with the same state in it answers like the model."""
    fresh = other.state_dict()
    kinds = {name: (tensor.shape, tensor.dtype) for name, tensor in state.items()}
    if {name: (tensor.shape, tensor.dtype) for name, tensor in fresh.items()} != kinds:
        return False
    other.load_state_dict(dict(state))
    device = device_of(model)
    images = torch.rand(2, *shape, generator=stream(0, "sparse-file", "probe")).to(device)
    with frozen(model):
        expected = model(images)
    found = other.to(device).eval()(images)
    scale = float(expected.abs().nan_to_num(posinf=0.0).amax()) if expected.numel() else 0.0
    same_shape = found.shape == expected.shape
    return same_shape and torch.allclose(
        found, expected, rtol=_TOLERANCE, atol=_TOLERANCE * scale, equal_nan=True
    )


def _normalisation(model: nn.Module) -> dict[str, list[float]] | None:
    layer = getattr(model, "normalize", None)
    if not isinstance(layer, Normalize):
        return None
    return {"mean": layer.mean.tolist(), "std": layer.std.tolist()}
