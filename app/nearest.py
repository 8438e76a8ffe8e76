"""Suggestions: the valid name nearest to the one that was sent."""

import difflib
from collections.abc import Iterable, Sequence


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like `word`, or None if none is like it."""
    folded = {name.lower().replace("-", "_"): name for name in known}
    found = difflib.get_close_matches(word[:128].lower().replace("-", "_"), list(folded), n=1, cutoff=0.55)
    return folded[found[0]] if found else None


def hint_nearest(word: str, known: Sequence[str], *, say: str = "") -> str:
    """A hint: the nearest known word if there is one, then `say` or the list of what is known."""
    close = nearest(word, known)
    rest = say or f"Known: {', '.join(list(known)[:40])}."
    return f"Did you mean `{close}`? {rest}" if close else rest
