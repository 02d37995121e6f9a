"""Write docs/methods/*.md, a card per method and sparsifier, from the classes and functions.

Run `python docs/make_methods.py` after changing a docstring, a field, or docs/results/methods.json
(the committed `compare.json` of `wiry compare`); tests/test_cards.py fails until that is done. It
also writes the table between the marks in docs/methods.md and the cards' lines in mkdocs.yml.
"""

import inspect
import json
from pathlib import Path
from typing import Any

from docstrings import LABELS, capital, field_docs, sections, type_text

from wiry.core.recipe import Recipe, Stage, expand
from wiry.core.registry import registry
from wiry.sparsify.plan import method_names, plan

DOCS = Path(__file__).parent
RESULTS = DOCS / "results" / "methods.json"
DENSE = Stage(name="dense", epochs=20)
PATH = [0.5, 0.25, 0.1]


def card_names() -> list[str]:
    """Return the names that have a card: methods and sparsifiers."""
    return sorted({*method_names(), *registry("sparsifier").names()})


def pages() -> dict[Path, str]:
    """Return every file that is made here, with its content."""
    made = {DOCS / "methods" / f"{name}.md": card(name) for name in card_names()}
    index, menu = DOCS / "methods.md", DOCS.parent / "mkdocs.yml"
    made[index] = _between(index.read_text(encoding="utf-8"), "<!-- {} -->", _index())
    lines = [f"      - {name}: methods/{name}.md" for name in card_names()]
    made[menu] = _between(menu.read_text(encoding="utf-8"), "# {}", "\n".join(lines))
    return made


def card(name: str) -> str:
    """Return the card of a method or sparsifier as Markdown."""
    is_method = name in registry("method").names()
    is_sparsifier = name in registry("sparsifier").names()
    owner = "sparsifier" if is_sparsifier else "method"
    parts = sections(inspect.getdoc(registry(owner).get(name)) or "")
    if is_method and is_sparsifier:
        for label, text in sections(inspect.getdoc(registry("method").get(name)) or "").items():
            if label and text not in parts.get(label, ""):
                parts[label] = f"{parts[label]}\n\n{text}" if label in parts else text
    summary = registry("method" if is_method else "sparsifier").summary(name)
    lines = [
        f"# {name}",
        "<!-- Made by docs/make_methods.py: change the docstring, not this page. -->",
        summary,
    ]
    if parts.get("") and parts[""] != summary:
        lines.append(parts[""].removeprefix(f"{summary}\n\n"))
    lines += [f"**{LABELS[k]}.** {capital(parts[k])}" for k in LABELS if k in parts]
    if not is_sparsifier and not {"Source", "Published"} <= set(parts):
        used = [s.sparsifier["name"] for s in plan(name, PATH, DENSE, 20)]
        pruning = next(n for n in reversed(used) if n != "fixed")
        lines.append(f"More on its pruning is on the card of [{pruning}]({pruning}.md).")
    if name in method_names():
        lines += ["## As a method", *_stages(name)]
    if is_method:
        lines += _fields("method", name, "Fields of the method")
    if is_sparsifier:
        fields = f"with its fields `sparsifier: {{name: {name}, ...}}`"
        lines += ["## As a sparsifier", f"`sparsifier: {name}` in a stage, or {fields}."]
        lines += _fields("sparsifier", name, "Fields of the sparsifier")
    lines += ["## Our number", our_number(name)]
    return "\n\n".join(lines) + "\n"


def our_number(name: str) -> str:
    """Return what the committed comparison measured of a method."""
    if not RESULTS.exists():
        return "Not measured yet."
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    cells = [c for c in found["cells"] if c["method"] == name]
    if not cells:
        return "Not in the comparison: it is a part of other methods, or newer."
    rows = [
        ["sparsity", "weights left", "robust", "95 % interval", "clean", "training, ideally sparse"]
    ]
    for cell in cells:
        if not cell["num_seeds"]:
            rows.append([_percent(cell["sparsity"]), "-", "; ".join(cell["reasons"]), "", "", ""])
            continue
        rows.append(
            [
                _percent(cell["sparsity"]),
                _percent(cell["density"]),
                _spread(cell, "robust") + ("" if cell["ranked"] else " (not ranked)"),
                " to ".join(f"{100 * end:.1f}" for end in cell["robust_interval"]),
                _spread(cell, "clean"),
                f"{cell['flops_sparse'] / 1e9:.3g} GFLOP",
            ]
        )
    rank = found["mean_ranks"].get(name)
    ranked = "" if rank is None else f" Mean rank {rank:.1f} of {len(found['methods'])}."
    dense = next(c for c in found["cells"] if c["method"] == "dense")
    text = (
        f"{found['model']} on {found['data']}, {found['norm']} eps {found['eps']:g}, worst case of "
        f"the strongest attacks, mean ± deviation over {len(found['seeds'])} seeds; the dense "
        f"network has {_spread(dense, 'robust')} robust and {_spread(dense, 'clean')} clean."
        f"{ranked} From `wiry compare`."
    )
    return f"{text}\n\n{_table(rows)}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _spread(cell: dict[str, Any], what: str) -> str:
    mean, deviation = cell[f"{what}_accuracy"], cell[f"{what}_deviation"]
    return f"{100 * mean:.1f} ± {100 * deviation:.1f} %"


def _fields(kind: str, name: str, title: str) -> list[str]:
    documented = field_docs(registry(kind).get(name))
    rows = [["field", "type", "default", "what"]]
    for key, parameter in registry(kind).signature(name).items():
        default = parameter.default
        shown = "required" if default is parameter.empty else f"`{_plain(default)}`"
        rows.append([f"`{key}`", type_text(parameter.annotation), shown, documented.get(key, "")])
    return [f"{title}:", _table(rows)] if len(rows) > 1 else []


def _plain(value: Any) -> str:
    registered = getattr(type(value), "registered_name", None)
    return str(registered) if registered else str(value)


def _stages(name: str) -> list[str]:
    """Return what the method's stages are at 90 % sparsity after 20 dense epochs."""
    stages = plan(name, PATH, DENSE, 20)
    recipe = Recipe.model_validate(
        {
            "name": "card",
            "data": "digits",
            "model": "mlp",
            "stages": [s.model_dump(exclude_defaults=True) for s in stages],
        }
    )
    rows = [["stage", "epochs", "sparsifier", "starts from", "mask of"]]
    for stage in expand(recipe):
        sparsifier = stage.sparsifier["name"]
        rows.append(
            [
                f"`{stage.name}`",
                str(stage.epochs),
                sparsifier if sparsifier == name else f"[{sparsifier}]({sparsifier}.md)",
                f"`{stage.start.weights}`",
                "-" if stage.start.mask == "none" else f"`{stage.start.mask}`",
            ]
        )
    text = f"`--methods {name}` of `wiry search` and `wiry compare`."
    return [f"{text} Its stages at 90 % sparsity, with 20 epochs dense and 20 after:", _table(rows)]


def _index() -> str:
    rows = [["name", "as a method of search and compare", "as a sparsifier of a stage"]]
    for name in card_names():
        method = registry("method").summary(name) if name in registry("method").names() else ""
        if name in method_names() and not method:
            method = "Dense training, then one stage with the sparsifier."
        used = name in registry("sparsifier").names()
        sparsifier = registry("sparsifier").summary(name) if used else ""
        rows.append([f"[{name}](methods/{name}.md)", method or "-", sparsifier or "-"])
    return _table(rows)


def _table(rows: list[list[str]]) -> str:
    head, *body = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _between(text: str, mark: str, content: str) -> str:
    """Replace what stands between the marks."""
    begin, end = mark.format("cards: begin"), mark.format("cards: end")
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    assert found and closed, f"the marks {begin!r} and {end!r} are there"
    return f"{before}{begin}\n{content}\n{end}{after}"


def main() -> None:
    """Write what has changed, and remove cards of what is gone."""
    made = pages()
    for path in (DOCS / "methods").glob("*.md"):
        if path not in made:
            path.unlink()
    for path, content in made.items():
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            path.write_text(content, encoding="utf-8")
            print(path.relative_to(DOCS.parent))


if __name__ == "__main__":
    main()
