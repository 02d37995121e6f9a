"""A small builder of comparisons for the report's tests: `compare.json` only, no runs."""

import json

SPARSITIES = [0.9, 0.99]
ROBUST = {"rigl": (0.6, 0.3), "<b>set": (0.59, 0.2), "hydra": (0.5, 0.4)}
FLOPS = {"rigl": 2e9, "<b>set": 1e9, "hydra": 3e9}


def cell(method, sparsity, robust, flops, **more):
    around = [robust - 0.02, robust + 0.02]
    base = {"method": method, "sparsity": sparsity, "num_seeds": 3, "ranked": True, "reasons": []}
    base |= {"clean_accuracy": 0.9, "clean_deviation": 0.01, "clean_interval": [0.88, 0.92]}
    base |= {"robust_accuracy": robust, "robust_deviation": 0.015, "robust_interval": around}
    base |= {"density": 1 - sparsity, "flops_dense": 5e9, "flops_sparse": flops, "seconds": 6.0}
    return base | more


def build(root, **changes):
    """Write a comparison of three methods, of which one cannot do 99 %, and a refused one."""
    cells = [cell("dense", 0.0, 0.57, 4e9)]
    for method, values in ROBUST.items():
        for sparsity, robust in zip(SPARSITIES, values, strict=True):
            cells.append(cell(method, sparsity, robust, FLOPS[method]))
    cells[-1] |= {"ranked": False, "reasons": ["keeps more weights than asked for"]}
    empty = {"num_seeds": 0, "ranked": False, "reasons": ["no batch normalisation"]}
    cells += [{"method": "slimming", "sparsity": s} | empty for s in SPARSITIES]
    columns = [
        {"sparsity": 0.9, "winner": "rigl", "second": "<b>set", "robust_accuracy": 0.6}
        | {"difference": 0.01, "interval": [-0.02, 0.04], "apart": False, "tied": ["<b>set"]},
        {"sparsity": 0.99, "winner": "rigl", "second": "<b>set", "robust_accuracy": 0.3}
        | {"difference": 0.1, "interval": [0.05, 0.15], "apart": True, "tied": []},
    ]
    data = {"name": "digits", "data": "digits", "model": "mlp", "eps": 0.15, "norm": "linf"}
    data |= {"methods": [*ROBUST, "slimming"], "sparsities": SPARSITIES, "seeds": [0, 1, 2]}
    data |= {"dense_epochs": 20, "sparse_epochs": 20, "train": "PGD", "judge": "APGD; Square"}
    data |= {"finished": True, "seconds": 100.0, "cells": cells, "columns": columns, "rows": []}
    data |= {"mean_ranks": {"rigl": 1.0, "<b>set": 2.0, "hydra": 3.0, "slimming": 4.0}}
    (root / "compare.json").write_text(json.dumps(data | changes))
    return root
