"""Interactive bar charts of one network: weights left per layer, accuracy per class.

The form is that of `plots`.
"""

from wiry.report.evaluations import Evaluation
from wiry.report.plots import CATEGORIES, Plot, label
from wiry.report.reading import number
from wiry.report.words import count, percent


def layer_plot(evaluation: Evaluation) -> Plot | None:
    """Draw the share of weights left in each layer, in the network's order."""
    layers = evaluation.cost.get("layers") or []
    if not layers:
        return None
    names = [label(layer["name"]) for layer in layers]
    texts = [f"{count(layer['kept'])} of {count(layer['entries'])}" for layer in layers]
    shares = [100 * layer["density"] for layer in layers]
    bar = {
        "type": "bar",
        "orientation": "h",
        "y": names,
        "x": shares,
        "marker": {"color": "@series-0"},
        "text": [f"{percent(s / 100)}  ({t})" for s, t in zip(shares, texts, strict=True)],
        "textposition": "outside",
        "cliponaxis": False,
        "hovertemplate": "%{y}: %{text}<extra></extra>",
    }
    largest = max(*shares, 0.1)
    ticks = {"tickvals": [0, 20, 40, 60, 80, 100]} if largest > 60 else {}
    layout = {
        "xaxis": {"title": {"text": "weights left (%)"}, "range": [0, 1.5 * largest]} | ticks,
        "yaxis": CATEGORIES,
        "bargap": 0.35,
    }
    alt = "Weights left per layer: " + "; ".join(
        f"{layer['name']} {percent(layer['density'])}" for layer in layers
    )
    caption = "The share of each layer's weights that is left, and the numbers of weights."
    height = 110 + 30 * len(layers)
    return Plot("layers", "Weights left per layer", alt, caption, [bar], layout, height)


def class_plot(evaluation: Evaluation, most: int = 20) -> Plot | None:
    """Draw clean and robust accuracy per class; of many classes, those of least accuracy."""
    rows = [c for c in evaluation.per_class if number(c.get("clean")) is not None]
    if not rows:
        return None
    has_robust = any(number(c.get("robust")) is not None for c in rows)
    key = "robust" if has_robust else "clean"
    shown = rows
    if len(rows) > most:
        shown = sorted(rows, key=lambda c: number(c.get(key)) or 0.0)[:most]
    names = [label(c.get("name", "?")) for c in shown]
    kinds = (("clean", "@series-0"), ("robust", "@series-1"))[: 2 if has_robust else 1]
    bars = [
        {
            "type": "bar",
            "orientation": "h",
            "name": kind,
            "y": names,
            "x": [None if (v := number(c.get(kind))) is None else 100 * v for c in shown],
            "marker": {"color": color},
            "hovertemplate": f"%{{y}}: {kind} %{{x:.1f}} %<extra></extra>",
        }
        for kind, color in kinds
    ]
    layout = {
        "barmode": "group",
        "bargap": 0.3,
        "xaxis": {"title": {"text": "accuracy (%)"}, "range": [0, 100]},
        "yaxis": CATEGORIES,
    }
    caption = "The share of each class's images that is classified correctly."
    if len(rows) > most:
        caption += f" The {most} classes of least {key} accuracy, of {len(rows)}."
    alt = f"{' and '.join(k for k, _ in kinds)} accuracy per class; values in the table below."
    height = 130 + 34 * len(shown)
    return Plot("classes", "Accuracy per class", alt, caption, bars, layout, height, len(bars))
