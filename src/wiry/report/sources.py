"""Several run and search directories at once, for figures and tables over seeds."""

from collections.abc import Sequence
from pathlib import Path

from wiry.core.errors import UserError
from wiry.report.collect import collect_run, is_search
from wiry.report.collect_search import collect_search
from wiry.report.records import RunData, SearchData


def collect_all(roots: Sequence[Path]) -> list[RunData | SearchData]:
    """Read run and search directories; a directory named twice counts once.

    Raises:
        UserError: if there is none, or one is neither a run nor a search.
    """
    if not roots:
        raise UserError("no directory was named; name one or more run or search directories")
    unique = {Path(root).resolve(): Path(root) for root in roots}
    return [collect_search(r) if is_search(r) else collect_run(r) for r in unique.values()]
