"""Protocols as data, and their cards filled in from a record written by hand."""

import json

import pytest

from wiry.core.errors import UserError
from wiry.core.types import parse_fractions
from wiry.evaluation.protocol_cards import make_card
from wiry.evaluation.protocols import (
    PROTOCOLS,
    PRUNING_BENCHMARK,
    ROBUSTBENCH,
    find_protocol,
    parse_card,
)

CURVE = {"name": "robust accuracy", "x_label": "eps", "x": [0, 1], "y": [1, 0], "y_label": "share"}
RECORD = {
    "split": "test",
    "num_samples": 10_000,
    "norm": "linf",
    "clean_accuracy": 0.8898,
    "robust_accuracy": 0.57139,
    "cost": {"sparsity": 0.8997},
    "findings": [],
    "measures": [
        {
            "measure": "security-curve",
            "spec": {"name": "security-curve", "tuned": True},
            "values": {"accuracy_at_eps": 0.5801},
            "curves": [CURVE],
        }
    ],
}
PAPER = {
    "link": "https://example.org",
    "name": "A title",
    "authors": "A. One, B. Two",
    "venue": "NeurIPS 2020",
    "architecture": "WideResNet-28-10",
    "additional_data": "true",
    "reported": "62.24",
}
METHOD = {"ap_method": "HYDRA_Sehwag2020Hydra", "architecture": "resnet18"}


def card(protocol, given, record=RECORD, dataset="cifar10"):
    return make_card(protocol, record, parse_card(protocol, given), dataset)


def test_a_complete_robustbench_card_has_the_benchmarks_fields_and_nothing_missing():
    made = card(ROBUSTBENCH, PAPER)
    assert made.content == {
        **PAPER,
        "additional_data": True,
        "number_forward_passes": 1,
        "dataset": "cifar10",
        "eps": "8/255",
        "clean_acc": "88.98",
        "autoattack_acc": "57.14",
        "unreliable": False,
    }
    assert made.missing == {} and made.departures == ()
    assert card(ROBUSTBENCH, PAPER, {**RECORD, "norm": "l2"}).content["eps"] == "0.5"


def test_what_only_the_author_knows_is_listed_and_null():
    made = card(ROBUSTBENCH, {"venue": "ICML 2024"})
    assert set(made.missing) == set(PAPER) - {"venue"}
    assert all(made.content[key] is None for key in made.missing)
    assert json.loads(json.dumps(made.content, allow_nan=False)) == made.content


def test_fewer_images_and_other_data_are_said_in_the_card():
    record = {**RECORD, "num_samples": 1000}
    made = card(ROBUSTBENCH, {"footnote": "Pruned."}, record, "digits")
    footnote = made.content["footnote"]
    assert footnote.startswith("Pruned. Evaluated on the first 1,000 test images")
    assert "digits, not on cifar10" in footnote and len(made.departures) == 2


def test_doubts_make_a_card_unreliable_and_notes_do_not():
    for severity, unreliable in (("error", True), ("warning", True), ("note", False)):
        finding = {"check": "c", "severity": severity, "message": "m", "evidence": {}}
        made = card(ROBUSTBENCH, PAPER, {**RECORD, "findings": [finding]})
        assert made.content["unreliable"] is unreliable
        assert made.departures == (("m",) if unreliable else ())


def test_too_few_images_for_a_claim_do_not_make_a_card_unreliable():
    finding = {"check": "num-samples", "severity": "warning", "message": "m", "evidence": {}}
    made = card(ROBUSTBENCH, PAPER, {**RECORD, "findings": [finding]})
    assert made.content["unreliable"] is False and made.departures == ()


def test_a_pruning_card_has_the_models_key_and_the_curve():
    made = card(PRUNING_BENCHMARK, METHOD)
    assert made.content["model_key"] == "HYDRA_Sehwag2020Hydra_R18_CIFAR10_US_90"
    assert made.content["sparsity_rate"] == "90" and made.content["eps"] == "0.031"
    assert made.content["robust_accuracy_aa"] == "57.14"
    assert made.content["security_curve"] == CURVE
    assert made.content["robust_accuracy_fmn"] == "58.01"
    assert made.departures == ()
    assert set(made.missing) == {"link_to_paper", "model_gdrive", "distances_gdrive"}


@pytest.mark.parametrize(
    ("sparsity", "given", "size", "key"),
    [
        (0.95, {}, "95", "US_95"),
        (0.9949, {}, "99", "US_99"),
        (0.75, {"structure": "filters"}, "75", "S_75"),
        (0.0, {"structure": "channels", "sparsity_rate": "50"}, "50", "S_50"),
        (0.97, {}, None, None),
        (0.75, {}, None, None),
    ],
)
def test_sparsities_are_those_that_the_benchmark_compares(sparsity, given, size, key):
    record = {**RECORD, "cost": {"sparsity": sparsity}}
    made = card(PRUNING_BENCHMARK, {**METHOD, **given}, record)
    assert made.content["sparsity_rate"] == size
    if key is None:
        assert made.content["model_key"] is None
        assert "the benchmark compares 90, 95, 99 %" in made.departures[0]
    else:
        assert made.content["model_key"].endswith(f"CIFAR10_{key}") and made.departures == ()


def test_every_protocol_has_radii_that_are_numbers_and_a_data_set():
    for name, protocol in PROTOCOLS.items():
        assert find_protocol(name) is protocol
        assert all(0 < float(parse_fractions(eps)) <= 1 for eps in protocol.radii.values())
        assert protocol.datasets[0] == "cifar10" and protocol.num_samples == 10_000


@pytest.mark.parametrize(
    ("protocol", "given", "expected"),
    [
        (ROBUSTBENCH, {"venu": "x"}, "closest: 'venue'"),
        (ROBUSTBENCH, {"additional_data": "yes"}, "true or false"),
        (ROBUSTBENCH, {"number_forward_passes": "0"}, "above 0"),
        (PRUNING_BENCHMARK, {"structure": "rows"}, "weights or filters or channels"),
        (PRUNING_BENCHMARK, {"architecture": "wrn"}, "resnet18 or vgg16"),
        (PRUNING_BENCHMARK, {"sparsity_rate": "90%"}, "whole number"),
        (PRUNING_BENCHMARK, {"venue": "x"}, "has no 'venue'"),
    ],
)
def test_fields_that_a_card_does_not_have_are_refused(protocol, given, expected):
    with pytest.raises(UserError, match=expected):
        parse_card(protocol, given)


def test_an_unknown_protocol_is_refused_with_the_closest():
    with pytest.raises(UserError, match="closest: 'robustbench'"):
        find_protocol("robust-bench")
