"""Which budget an objective trains against, and the same objective against another one."""

import dataclasses
from typing import Any

from wiry.core.errors import UserError
from wiry.core.registry import registry


@dataclasses.dataclass(frozen=True)
class Threat:
    """The budget of a training; eps is None where nothing attacks."""

    attack: Any
    eps: float | None
    norm: str


def threat_of(objective: dict[str, Any]) -> Threat:
    """Return the threat an objective trains against, its defaults included.

    The budget is that of its field `attack`, else its own fields `eps` and `norm`.
    """
    built = registry("objective").build(objective)
    attack = getattr(built, "attack", None)
    holder = built if attack is None else attack
    return Threat(attack, getattr(holder, "eps", None), getattr(holder, "norm", "linf"))


def against(objective: dict[str, Any], eps: float | None, norm: str | None) -> dict[str, Any]:
    """Return an objective's spec with another budget; None leaves eps or norm as it is.

    An explicit step size grows with eps, so that the attack keeps its reach.

    Raises:
        UserError: if the objective has no such field to change.
    """
    threat = threat_of(objective)
    change = {key: v for key, v in (("eps", eps), ("norm", norm)) if v is not None}
    if threat.eps is None or not change:
        return objective
    if threat.attack is None:
        known = registry("objective").signature(objective["name"])
        if missing := next((key for key in change if key not in known), None):
            raise UserError(f"objective {objective['name']!r} has no {missing} to change")
        return {**objective, **change}
    attack = registry("attack").normalize(threat.attack)
    step = getattr(threat.attack, "step_size", None)
    if eps is not None and step is not None and threat.eps > 0:
        attack["step_size"] = step * eps / threat.eps
    return {**objective, "attack": {**attack, **change}}
