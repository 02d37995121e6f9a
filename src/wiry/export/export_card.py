"""The card of an exported file: what it is, what it answers, how it was checked, how to open it.

Written as Markdown from plain data; every number is in the data.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from wiry.export.card import escape

_LIMITS = """\
- Robust accuracy is what was left under the attacks named: an upper bound, for that norm and eps.
- The numbers are of the first test images, as many as are named: few images, wide intervals.
- Speed was not measured; `wiry bench` does that on the machine that matters."""


def card_text(card: Mapping[str, Any]) -> str:
    """Write a card as Markdown; text from outside is escaped."""
    sections = [
        f"# {escape(card['name'])}, exported as {escape(card['format'])}",
        _introduction(card),
        "## Files",
        _table(
            ("file", "bytes", "SHA-256"),
            [(escape(f["name"]), f"{f['bytes']:,}", f"`{f['sha256']}`") for f in card["files"]],
        ),
        "## Size",
        _size(card),
        "## Checked",
        _checked(card),
        *(["## Judged before", _judged(card["evaluation"])] if card["evaluation"] else []),
        "## Loading",
        f"```python\n{card['loading']}\n```",
        "## Limits",
        _LIMITS,
        "## Provenance",
        _provenance(card["provenance"]),
    ]
    return "\n\n".join(sections) + "\n"


def _introduction(card: Mapping[str, Any]) -> str:
    shape = " x ".join(map(str, card["input_shape"]))
    text = (
        f"An image classifier. Images are {shape} (channels, height, width), float32 in [0, 1]; "
        f"normalisation is inside. Weights are {escape(card['dtype'])}."
    )
    if card["class_names"]:
        names = ", ".join(escape(name) for name in card["class_names"])
        text += f" {len(card['class_names'])} classes: {names}."
    if card["recipe"]:
        text += f" Trained by the recipe {escape(card['recipe'])}."
    return text


def _size(card: Mapping[str, Any]) -> str:
    cost, shrunk = card["cost"], card["shrunk"]
    rows = [
        ("parameters", f"{cost['parameters']:,}"),
        ("weights that are not zero", f"{cost['nonzeros']:,} of {cost['prunable']:,}"),
        ("FLOPs an image", f"{cost['flops_sparse']:,} sparse, {cost['flops_dense']:,} dense"),
        ("bytes of all files", f"{sum(f['bytes'] for f in card['files']):,}"),
    ]
    if shrunk:
        before, after = shrunk["parameters_before"], shrunk["parameters_after"]
        rows.insert(0, ("dead channels taken out", f"{before:,} to {after:,} parameters"))
    return _table(("", ""), rows) + f"\n\n{card['zeros']}"


def _checked(card: Mapping[str, Any]) -> str:
    found = card["verification"]
    if found is None:
        return "Not checked: the file was written without images to ask it about."
    rows = [
        ("clean accuracy", _percent(found["clean_before"]), _percent(found["clean_after"])),
        ("robust accuracy", _percent(found["robust_before"]), _percent(found["robust_after"])),
    ]
    text = (
        f"{found['num_samples']:,} images went through the file ({escape(card['answers'])}). "
        f"Logits differ from the network's by {found['largest_difference']:.1e} of the largest, "
        f"{found['num_predictions_apart']:,} predictions differ."
    )
    how = f"Robust accuracy of the file: {escape(found['how'])}."
    if found["attacks"]:
        how += f" Attacks: {', '.join(escape(name) for name in found['attacks'])}."
    return "\n\n".join([text, _table(("", "network", "file"), rows), how])


def _judged(evaluation: Mapping[str, Any]) -> str:
    text = (
        f"The network, before it was exported, on {evaluation['num_samples']:,} images of the "
        f"{escape(evaluation['split'])} split: clean {_percent(evaluation['clean_accuracy'])}"
    )
    if evaluation["robust_accuracy"] is None:
        return f"{text}; not attacked."
    return (
        f"{text}, robust {_percent(evaluation['robust_accuracy'])} "
        f"({escape(evaluation['attack'])}, {escape(evaluation['norm'])}, "
        f"eps {evaluation['eps']:.4g})."
    )


def _provenance(facts: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return f"{escape(versions)}; {escape(facts['platform'])}; {escape(facts['created'])}."


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _percent(share: float | None) -> str:
    return "not measured" if share is None else f"{share:.1%}"
