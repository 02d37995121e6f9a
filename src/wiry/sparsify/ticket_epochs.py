"""How the methods that search a ticket first share out their epochs."""


def split_epochs(total: int, search_share: float) -> tuple[int, int]:
    """Return the epochs of the search, at least 1, and of the training after it.

    Raises:
        ValueError: if `search_share` is outside (0, 1).
    """
    if not 0 < search_share < 1:
        raise ValueError(f"search_share must be in (0, 1), got {search_share:g}")
    search = min(total, max(1, round(search_share * total)))
    return search, total - search
