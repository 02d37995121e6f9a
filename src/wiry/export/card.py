"""The model card: what a bundle is, what was measured and what it is not good for.

`make_card` gathers the data, `card_text` writes it as Markdown; every number comes from the
evaluation's record.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from wiry.core.recipe import Recipe
from wiry.core.run import provenance

LOADING = """\
```python
from wiry.export.load import load

model = load("path/to/this/folder")  # eval mode, on the CPU
logits = model(images)  # float32 (n, c, h, w) in [0, 1]; normalisation is inside
```"""

LIMITS = """\
- Robust accuracy is what was left under the attacks named above: an upper bound of the truth, as a
  stronger attack may find more. It holds for that norm and eps, no other.
- Both accuracies are of images like those of the data set; other cameras, crops or corruptions
  were not tested.
- Intervals cover the choice of test images, not the seed of the training.
- FLOPs and bytes are counted, not measured. Zero weights make a model faster only on software or
  hardware that skips them."""


def make_card(
    *,
    recipe: Recipe,
    model_spec: Mapping[str, Any],
    dataset_name: str,
    input_shape: Sequence[int],
    class_names: Sequence[str],
    statistics: tuple[Float[Tensor, " c"], Float[Tensor, " c"]] | None,
    evaluation: dict[str, Any],
    search: dict[str, Any] | None,
) -> dict[str, Any]:
    """Return the card as plain data, with the provenance of this process."""
    return {
        "name": recipe.name,
        "identity": recipe.identity(),
        "seed": recipe.seed,
        "dataset": dataset_name,
        "model": dict(model_spec),
        "input_shape": list(input_shape),
        "class_names": list(class_names),
        "statistics": None
        if statistics is None
        else {"mean": statistics[0].tolist(), "std": statistics[1].tolist()},
        "evaluation": evaluation,
        "search": search,
        "provenance": provenance(recipe.seed),
    }


def card_text(card: dict[str, Any]) -> str:
    """Write a card as Markdown; text from recipes and data sets is escaped."""
    sections = [
        f"# {escape(card['name'])}",
        _introduction(card),
        "## Accuracy",
        _accuracy(card["evaluation"]),
        "## Size",
        _size(card["evaluation"]["cost"]),
        *(["## Search", _search(card["search"])] if card["search"] else []),
        "## Loading",
        LOADING,
        "## Limits",
        LIMITS,
        "## Provenance",
        _provenance(card),
    ]
    return "\n\n".join(sections) + "\n"


def escape(text: Any) -> str:
    """Return text on one line that Markdown shows as it is."""
    line = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_{}\[\]>#|~!$])", r"\\\1", line.replace("://", ":&#47;/"))


def _introduction(card: dict[str, Any]) -> str:
    spec = card["model"]
    fields = ", ".join(f"{key} {value}" for key, value in spec.items() if key != "name")
    shape = " x ".join(map(str, card["input_shape"]))
    names = ", ".join(map(str, card["class_names"]))
    return (
        f"A sparse image classifier: {escape(spec['name'])}"
        f"{f' ({escape(fields)})' if fields else ''}, trained on {escape(card['dataset'])}. "
        f"Images are {shape} (channels, height, width). "
        f"{len(card['class_names'])} classes: {escape(names)}."
    )


def _accuracy(evaluation: dict[str, Any]) -> str:
    rows = [
        ("no attack (clean accuracy)", evaluation["clean_accuracy"], evaluation["clean_interval"])
    ]
    for attack in evaluation["attacks"]:
        rows.append((escape(attack["attack"]), attack["accuracy"], attack["interval"]))
    attacked = evaluation["robust_accuracy"] is not None
    if attacked:
        worst = (evaluation["robust_accuracy"], evaluation["robust_interval"])
        rows.append(("worst case of all (robust accuracy)", *worst))
    lines = ["| under | accuracy | 95 % interval |", "|---|---|---|"]
    for under, accuracy, (low, high) in rows:
        lines.append(f"| {under} | {_percent(accuracy)} | {_percent(low)} to {_percent(high)} |")
    measured = (
        f"Measured on {evaluation['num_samples']:,} images of the {escape(evaluation['split'])} "
        f"split (seed {evaluation['seed']}). "
    )
    if not attacked:
        return f"{measured}No attack was run: nothing is known of robustness.\n\n" + "\n".join(
            lines
        )
    ball = f"norm {escape(evaluation['norm'])}, {_eps_text(evaluation['eps'])}. "
    counted = "An image counts as robust if it is right when clean and under every attack."
    return f"{measured}Threat model: {ball}{counted}\n\n" + "\n".join(lines)


def _size(cost: dict[str, Any]) -> str:
    rows = [
        ("prunable weights", f"{cost['prunable']:,} of {cost['parameters']:,} parameters"),
        ("kept by the mask", f"{_percent(cost['mask_density'])} of the prunable weights"),
        ("kept and not zero", f"{_percent(cost['nonzero_density'])} ({cost['nonzeros']:,})"),
        ("sparsity", f"{_percent(cost['sparsity'])} of the prunable weights are zero"),
        ("dead units", f"{cost['dead_units']:,} of {cost['units']:,}"),
        ("FLOPs an image", f"{cost['flops_sparse']:,} sparse, {cost['flops_dense']:,} dense"),
        (
            "bytes",
            f"{cost['bytes_sparse']:,} as bit mask and values, {cost['bytes_dense']:,} dense",
        ),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def _search(search: dict[str, Any]) -> str:
    lines = [f"Searched for: {escape(search.get('constraint', 'not recorded'))}."]
    for role in ("winner", "dense"):
        row = search.get(role)
        if not row:
            continue
        clean, robust = (row.get(f"{kind}_accuracy") for kind in ("clean", "robust"))
        lines.append(
            f"- {role}: {escape(row.get('method'))}, mask density {_percent(row.get('density'))}, "
            f"clean {_percent(clean)}, robust {_percent(robust)} "
            f"(mean over seeds {', '.join(map(str, row.get('seeds') or []))})"
        )
    return "\n".join([lines[0], "", *lines[1:]])


def _provenance(card: dict[str, Any]) -> str:
    origin = card["provenance"]
    versions = ", ".join(f"{name} {version}" for name, version in origin["versions"].items())
    rows = {
        "recipe": f"{card['name']}, identity {card['identity']}, seed {card['seed']}",
        "versions": versions,
        "python": origin["python"],
        "platform": origin["platform"],
        "processor": origin["processor"],
        "commit": origin["commit"] or "unknown",
        "exported": origin["created"],
    }
    return "\n".join(f"- {key}: {escape(value)}" for key, value in rows.items())


def _percent(share: float | None) -> str:
    return "not measured" if share is None else f"{100 * share:.2f} %"


def _eps_text(eps: float | None) -> str:
    if eps is None:
        return "eps as each attack says"
    levels = eps * 255
    whole = abs(levels - round(levels)) < 1e-6 and 0 < round(levels) < 255
    return f"eps {eps:.4g}" + (f" ({round(levels)}/255)" if whole else "")
