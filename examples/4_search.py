"""Search for the sparsest network that is good enough, and read what was found.

New here: the `wiry search` command driven from Python, with its settings written out. Run:
`python examples/4_search.py [EPOCHS]`; the page and `best/` are in the folder it prints.
"""

import json
import sys
from pathlib import Path

from wiry.cli import run

EPOCHS = int(sys.argv[1]) if len(sys.argv) > 1 else 15

code = run(
    [
        "search",
        *("--set", "model={name: mlp, widths: [64]}"),  # the preset of the digits, but for this
        *("--set", "data={name: digits, num_test: 200}"),  # few images to judge on, for speed
        *("--set", f"stages.0.epochs={EPOCHS}"),
        *("--methods", "one-shot,lottery"),
        *("--max-drop", "0.05"),  # accuracy to lose, clean and robust, against the dense network
        *("--min-density", "0.2"),
        *("--seeds", "0"),  # three or more for a result that counts
        *("--workers", "0"),  # in this process
        *("--out", "runs"),
    ]
)
print({0: "found", 3: "nothing meets the constraint"}[code])
newest = max(Path("runs").glob("search-*/search.json"), key=lambda path: path.stat().st_mtime)
outcome = json.loads(newest.read_text())
for row in outcome["candidates"]:
    print(f"{row['method']:10} {row['target_density']:7.2%}  {row['verdict']}: {row['reason']}")
print(newest.parent)
