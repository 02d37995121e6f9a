"""A tiny trained network, what was measured of it, and its bundle."""

import torch
from torch import nn

from wiry.core.mask import Mask
from wiry.core.recipe_file import parse_recipe
from wiry.export.bundle import write_bundle
from wiry.models.base import build_model

SPEC = {"name": "mlp", "widths": [3]}
KEPT = torch.tensor([[True, False, True], [False, False, True]])
EVALUATION = {
    "split": "test",
    "num_samples": 1000,
    "seed": 0,
    "clean_accuracy": 0.9125,
    "clean_interval": [0.8934, 0.9284],
    "robust_accuracy": 0.5,
    "robust_interval": [0.4691, 0.5309],
    "eps": 8 / 255,
    "norm": "linf",
    "attack": "worst case of 1 attack: PGD(num_steps=10)",
    "attacks": [
        {
            "attack": "PGD(num_steps=10)",
            "spec": {"name": "pgd"},
            "accuracy": 0.5,
            "interval": [0.4691, 0.5309],
        }
    ],
    "cost": {
        "mask_density": 0.5,
        "nonzero_density": 0.25,
        "sparsity": 0.75,
        "nonzeros": 1234,
        "prunable": 4936,
        "parameters": 5000,
        "dead_units": 3,
        "units": 40,
        "flops_dense": 10000,
        "flops_sparse": 2500,
        "bytes_dense": 20000,
        "bytes_sparse": 6000,
        "layers": [],
    },
}


def recipe(name="tiny"):
    """Return a recipe for the digits."""
    return parse_recipe(
        {"name": name, "data": "digits", "model": SPEC, "stages": [{"name": "dense", "epochs": 1}]}
    )


def trained() -> nn.Module:
    """Return a network whose tensors all differ from those of a fresh one."""
    model = build_model(SPEC, input_shape=(1, 2, 2), num_classes=2, seed=0)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
    return model


def write(folder, **changes):
    """Write the bundle of the network."""
    parts = {
        "model": trained(),
        "mask": Mask({"head.weight": KEPT}),
        "recipe": recipe(),
        "model_spec": SPEC,
        "dataset_name": "digits",
        "input_shape": (1, 2, 2),
        "class_names": ("no", "yes"),
        "statistics": (torch.tensor([0.5]), torch.tensor([0.25])),
        "evaluation": EVALUATION,
        "search": None,
        **changes,
    }
    write_bundle(folder, **parts)
