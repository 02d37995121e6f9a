"""What `wiry export` prints: what the file is, and what it answers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from wiry.console import percent, terminal


def show(card: Mapping[str, Any], files: Mapping[str, Path]) -> None:
    """Print a card in a few lines."""
    console = terminal()
    found = card["verification"]
    if found is not None:
        console.print(_table(found))
        console.print(
            f"{found['num_samples']:,} test images through {card['answers']}; "
            f"robust accuracy of the file: {found['how']}.",
            markup=False,
        )
    else:
        console.print("Not verified.")
    size = sum(file["bytes"] for file in card["files"])
    console.print(f"{size:,} bytes. {card['zeros']}", markup=False)
    for name, path in files.items():
        console.print(f"{name.capitalize()}: {path}", markup=False, soft_wrap=True)


def _table(found: Mapping[str, Any]) -> Table:
    table = Table()
    for head in ("", "network", "file"):
        table.add_column(head, justify="left" if not head else "right")
    for what in ("clean", "robust"):
        before, after = found[f"{what}_before"], found[f"{what}_after"]
        table.add_row(f"{what} accuracy", percent(before), percent(after))
    table.add_row("logits apart, of the largest", "", f"{found['largest_difference']:.1e}")
    table.add_row("predictions apart", "", f"{found['num_predictions_apart']:,}")
    return table
