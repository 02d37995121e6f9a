"""Put a network to measures and checks, and return what they said as plain data.

The measures are in `measures/`, the checks in `checks/`; what both may look at is a `Subject`.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from wiry.core.errors import NoGradient
from wiry.core.registry import registry
from wiry.evaluation.judge import frozen
from wiry.evaluation.subject import Finding, Measured, Subject

_ORDER = ("error", "warning", "note")


def findings_of(subject: Subject, names: Sequence[str] | None = None) -> list[Finding]:
    """Return what the checks have to say, the gravest first.

    A check that needs gradients is left out for a network that has none. One that fails is a note:
    an evaluation that has taken hours is not lost by it.

    Args:
        names: of the checks to run; None: all that there are.
    """
    checks, said = registry("check"), []
    with frozen(subject.model):
        for name in names or checks.names():
            try:
                said.append(checks.build(name, subject=subject))
            except NoGradient:
                continue
            except Exception as error:  # whatever a network's own code raises on unusual images
                text = f"The check could not be run ({type(error).__name__}: {error})."
                said.append(Finding(name, "note", text))
    found = [finding for finding in said if finding is not None]
    return sorted(found, key=lambda finding: (_ORDER.index(finding.severity), finding.check))


def measured(
    subject: Subject,
    measures: Sequence[Any],
    tell: Callable[[str], None] | None = None,
) -> list[tuple[dict[str, Any], Measured]]:
    """Return the spec of each measure and what it found.

    Args:
        measures: measures or their specs.
        tell: called with the name of each measure before it runs.

    Raises:
        UserError: for a measure that there is not, or that cannot measure this network.
    """
    found = []
    for spec in measures:
        measure = registry("measure").build(spec)
        if tell is not None:
            tell(measure.registered_name)
        with frozen(subject.model):
            found.append((registry("measure").normalize(measure), measure(subject)))
    return found


def measure_rows(found: Sequence[tuple[dict[str, Any], Measured]]) -> list[dict[str, Any]]:
    """Return measures as plain data, ready for JSON; their arrays are named, not held."""
    return [
        {
            "measure": spec["name"],
            "spec": spec,
            "values": measured.values,
            "remark": measured.remark,
            "curves": [dataclasses.asdict(curve) for curve in measured.curves],
            "arrays": sorted(measured.arrays),
        }
        for spec, measured in found
    ]


def measure_arrays(found: Sequence[tuple[dict[str, Any], Measured]]) -> dict[str, np.ndarray]:
    """Return the arrays of measures under their names in the .npz: position, then name."""
    return {
        f"measure_{position}_{key}": array
        for position, (_, measured) in enumerate(found)
        for key, array in measured.arrays.items()
    }
