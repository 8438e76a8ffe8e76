"""How a ranking of base models looks on a terminal."""

from graft.cli.output import note, say, seconds, size, table
from graft.types import Candidate, Ranking


def ranking(found: Ranking) -> None:
    """The table, and what to take from it."""
    say(f"Looked at {found.items} training items.")
    measured = [one for one in found.candidates if one.rank is not None]
    table(
        ("rank", "base model", "score", "probe", "neighbours", "LogME", "H-score", "1,000 items", "memory"),
        [_row(one) for one in measured],
    )
    for one in found.candidates:
        if one.rank is None:
            note(f"{one.base_model}: {one.state}. {one.note}", "yellow")
    say(found.sentence)


def _row(one: Candidate) -> tuple[object, ...]:
    cost = seconds(1000 / one.items_per_second) if one.items_per_second else ""
    memory = "" if one.memory_bytes is None else size(one.memory_bytes)
    return (
        one.rank,
        one.base_model,
        *map(_figure, (one.score, one.probe, one.knn, one.logme, one.h_score)),
        cost,
        memory,
    )


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
