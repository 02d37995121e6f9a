"""Load the network a search shipped and classify images with it.

New here: `best/`, the folder to give away. Run example 4 first, then
`python examples/5_load_and_classify.py [FOLDER]`; without FOLDER the newest `best/` is taken.
"""

import json
import sys
from pathlib import Path

import torch

import wiry

found = sorted(Path("runs").glob("search-*/best"), key=lambda path: path.stat().st_mtime)
if len(sys.argv) < 2 and not found:
    sys.exit("no best/ below runs/; run example 4 first, or name a folder")
folder = Path(sys.argv[1]) if len(sys.argv) > 1 else found[-1]

model = wiry.load(folder)  # checksums and shapes are checked; nothing is unpickled
card = json.loads((folder / "card.json").read_text())
names = card["class_names"]

x, y = wiry.build_dataset(card["dataset"]).split("test")  # float32 in [0, 1]
with torch.no_grad():
    probabilities = model(x[:5]).softmax(1)
for row, label in zip(probabilities, y[:5], strict=True):
    print(f"{names[label]}: taken for {names[row.argmax()]} with {row.max():.1%}")

zeros = sum(int((p == 0).sum()) for p in model.parameters())
total = sum(p.numel() for p in model.parameters())
print(f"{total - zeros:,} of {total:,} parameters are not zero ({folder})")
