"""A ranking in a few sentences: what to take, how sure that is, and whether the scores agree."""

from core.contract.datasets import Problem
from core.contract.reports import Candidate, Ranking

_NAMES = {"probe": "probe", "knn": "nearest neighbours", "logme": "LogME", "h_score": "H-score"}
_FIGURES: dict[Problem, str] = {"classification": "accuracy", "multi_label": "micro-F1", "regression": "R2"}
_AGREE = 0.6  # weighted Kendall tau
_CHEAPER = 0.8  # of the best one's seconds


def sentence(ranking: Ranking, problem: Problem) -> str:
    """What a reader should take from the table."""
    measured = [one for one in ranking.candidates if one.rank is not None]
    best = measured[0]
    figures = f"{_FIGURES[problem]} {_figure(best.probe)} by a linear probe, {_figure(best.knn)} by nearest neighbours"
    parts = [f"{best.title} ({best.base_model}) suits these data best: {figures}, on {ranking.items:,} training items."]
    if len(measured) == 1:
        return f"{parts[0]} No other base model was measured."
    parts.append(_ties(best, [one for one in measured if one.base_model in ranking.equal]))
    parts.append(_agreement(ranking.agreement))
    return " ".join(parts)


def _ties(best: Candidate, equal: list[Candidate]) -> str:
    if not equal:
        return "It is ahead of every other one by more than chance."
    names = _listed([one.base_model for one in equal])
    cheapest = min(equal, key=lambda one: one.seconds or 0)
    text = f"By these it cannot be told from {names}; LogME puts it first."
    if best.seconds and cheapest.seconds is not None and cheapest.seconds <= _CHEAPER * best.seconds:
        share = cheapest.seconds / best.seconds
        text += f" Of these {cheapest.base_model} costs least: {share:.0%} of the seconds."
    return text


def _agreement(taus: dict[str, float]) -> str:
    if not taus:
        return ""
    told = ", ".join(f"{_NAMES[name]} {tau:.2f}" for name, tau in taus.items())
    apart = [_NAMES[name] for name, tau in taus.items() if tau < _AGREE]
    if not apart:
        return f"The scores agree (weighted Kendall tau with the ranking: {told})."
    return (
        f"The scores disagree (weighted Kendall tau with the ranking: {told}): {_listed(apart)} "
        f"{'orders' if len(apart) == 1 else 'order'} them otherwise, so treat the first three as equal."
    )


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
