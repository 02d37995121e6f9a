"""From the name of an evaluation, such as "autoattack", to the attacks that it stands for."""

from collections.abc import Sequence
from typing import Any

from wiry.attacks.presets import autoattack, screen
from wiry.core.errors import UserError, closest
from wiry.core.registry import registry

PRESETS = ("autoattack", "screened", "screen")
"""Names that stand for several attacks; every other name is a registered attack's."""


def attacks_of(
    attack: str | Sequence[Any], eps: float | None, norm: str = "linf", version: str = "standard"
) -> tuple[Any, ...]:
    """Return the attacks that a preset or a registered name stands for; a list as it is.

    Raises:
        UserError: for a name, a radius, a norm or a version that there is not.
    """
    if not isinstance(attack, str):
        return tuple(registry("attack").build(one) for one in attack)
    if eps is None:
        raise UserError(f"attack {attack!r} needs an eps, such as 8/255")
    known = (*PRESETS, *registry("attack").names())
    if attack not in known:
        raise UserError(f"no attack {attack!r}{closest(attack, known)}. See `wiry list attacks`.")
    if version != "standard" and attack != "autoattack":
        raise UserError(f"version is of the attack 'autoattack', not of {attack!r}")
    try:
        if attack in ("autoattack", "screened"):
            return autoattack(eps, norm, version)
        if attack == "screen":
            return screen(eps, norm)
    except ValueError as error:
        raise UserError(f"attack {attack!r}: {error}") from error
    return (registry("attack").build({"name": attack, "eps": eps, "norm": norm}),)
