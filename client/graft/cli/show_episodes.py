"""How learning from a few items went, on a terminal."""

from graft.cli.output import say, table
from graft.types import EpisodeFigure, EpisodeReport


def episodes(found: EpisodeReport) -> None:
    """The sentence, then every arm's accuracy for each number of classes and items."""
    if found.sentence:
        say(found.sentence)
    rows = [(f.arm, f.ways, f.shots, f"{f.accuracy:.1%}", _interval(f), f.episodes) for f in found.figures]
    if rows:
        table(("arm", "classes", "items of each", "accuracy", "95 % interval", "episodes"), rows)
    if found.outliers is not None:
        say(f"Items of classes that it does not know: {found.outliers:.1%} are told to be none of its classes.")


def _interval(figure: EpisodeFigure) -> str:
    return "" if figure.low is None or figure.high is None else f"{figure.low:.1%} to {figure.high:.1%}"
