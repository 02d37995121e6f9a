"""The model card says what was measured, and nothing can break out of its Markdown."""

import json

import torch
from tests.export.example import EVALUATION, SPEC, recipe, write

from wiry.export.card import card_text, escape, make_card

SEARCH = {
    "constraint": "robust accuracy at least 40 % (eps 0.03137, linf)",
    "winner": {
        "method": "gradual",
        "density": 0.1,
        "clean_accuracy": 0.9,
        "robust_accuracy": 0.48,
        "seeds": [0, 1],
    },
    "dense": None,
}


def text(**changes):
    parts = {
        "recipe": recipe(),
        "model_spec": SPEC,
        "dataset_name": "digits",
        "input_shape": (1, 2, 2),
        "class_names": ("no", "yes"),
        "statistics": (torch.tensor([0.5]), torch.tensor([0.25])),
        "evaluation": EVALUATION,
        "search": SEARCH,
        **changes,
    }
    return card_text(make_card(**parts))


def test_card_has_the_written_out_numbers():
    found = text()
    for part in (
        "| no attack (clean accuracy) | 91.25 % | 89.34 % to 92.84 % |",
        "| worst case of all (robust accuracy) | 50.00 % | 46.91 % to 53.09 % |",
        "norm linf, eps 0.03137 (8/255)",
        "1,000 images of the test split",
        "| kept by the mask | 50.00 % of the prunable weights |",
        "| kept and not zero | 25.00 % (1,234) |",
        "| dead units | 3 of 40 |",
        "2,500 sparse, 10,000 dense",
        "6,000 as bit mask and values, 20,000 dense",
        "- winner: gradual, mask density 10.00 %, clean 90.00 %, robust 48.00 % (mean over seeds "
        "0, 1)",
        "2 classes: no, yes.",
        "load(",
        f"torch {torch.__version__}",
    ):
        assert part in found, part


def test_card_without_attack_says_that_robustness_is_unknown():
    nothing = {"robust_accuracy": None, "robust_interval": None, "attacks": []}
    found = text(evaluation=EVALUATION | nothing | {"eps": None, "norm": None}, search=None)
    assert "nothing is known of robustness" in found
    assert "worst case" not in found and "## Search" not in found


def test_radii_of_several_norms_are_left_to_the_attacks():
    found = text(evaluation=EVALUATION | {"eps": None, "norm": "l2+linf"})
    assert "norm l2+linf, eps as each attack says" in found


def test_text_of_others_cannot_break_out_of_the_markdown():
    evil = "a | b\n# Title <script>alert(1)</script> [x](http://evil) `code` *b* _i_ ![i](u)"
    found = text(class_names=(evil, "yes"), dataset_name=evil)
    assert "<script" not in found and "\n# Title" not in found and "http://" not in found
    assert "](" not in found.replace("\\](", "") and "a \\| b \\# Title" in found
    assert escape("*a*_b_`c`") == "\\*a\\*\\_b\\_\\`c\\`"


def test_card_on_disk_holds_the_evaluation_as_it_was(tmp_path):
    write(tmp_path / "best", search=SEARCH)
    card = json.loads((tmp_path / "best" / "card.json").read_text())
    assert card["evaluation"] == EVALUATION and card["search"] == SEARCH
    assert card["identity"] == recipe().identity() and "torch" in card["provenance"]["versions"]
    assert (tmp_path / "best" / "card.md").read_text() == card_text(card)
