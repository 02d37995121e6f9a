"""The user's mistakes and how they are worded.

Our own mistakes stay `AssertionError`s and tracebacks.
"""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in a recipe, an argument or a file: one clear line, exit code 2, never a traceback.

    The text says what was asked, what was found and what to do.
    """


class Diverged(UserError):
    """A training whose loss is not finite any more; a search counts it as a failure and goes on."""


class NoGradient(UserError):
    """A network that gives answers but no gradients was asked for one; checks that need it skip."""


def closest(name: str, known: Iterable[str]) -> str:
    """Return `; closest: 'x'` for the known name nearest to `name`, else the known names."""
    known = sorted(known)
    matches = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    return f"; closest: {matches[0]!r}" if matches else f"; known: {', '.join(known) or 'none'}"
