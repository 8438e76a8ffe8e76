"""The verdict in plain words."""

from dataclasses import dataclass

from core.contract.datasets import Problem
from core.contract.verdicts import Difference, Verdict

_ARMS = {
    "linear_probe": "a linear probe of the frozen base model",
    "nearest_class_mean": "the nearest class mean",
    "majority": "always answering the commonest class",
    "mean": "always answering the mean",
    "previous_model": "the model it started from, as it was",
    "from_scratch": "the same network trained from scratch",
    "fine_tune": "fine-tuning",
    "nothing": "answering nothing",
    "simple_shot": "class means of the frozen base model",
    "logistic_regression": "logistic regression on frozen features",
    "plain_fine_tuning": "plain fine-tuning on the same few items",
    "maml": "MAML",
    "anil": "ANIL",
    "meta_sgd": "Meta-SGD",
    "r2d2": "R2-D2",
}
_FIGURES = {"multi_label": "F1", "regression": "R²"}
_MOST_NEEDED = 1_000_000


@dataclass(frozen=True)
class Said:
    """What the sentence speaks of."""

    problem: Problem
    method: str
    baseline: str
    ours: float
    theirs: float
    items: int
    margin: float
    needed: int
    hopeless: bool


def arm(name: str) -> str:
    """An arm within a sentence."""
    return _ARMS.get(name, name.replace("_", " "))


def sentence(verdict: Verdict, difference: Difference, said: Said) -> str:
    """One or two sentences: what came out, on how many items, and how sure it is."""
    return f"{_lead(verdict, said)} {_figures(difference, said)}"


def _lead(verdict: Verdict, said: Said) -> str:
    method, baseline = capital(arm(said.method)), arm(said.baseline)
    if verdict == "improved":
        return f"{method} helped: it is better than {baseline}."
    if verdict == "harmful":
        return f"{method} did harm: {baseline} is better."
    if said.hopeless:
        return (
            "Nothing was learnt: no arm beats a constant answer. The labels may not follow from the inputs at all, or "
            "there are too few items."
        )
    if verdict == "not_improved":
        return f"{method} brought nothing of use over {baseline}."
    return (
        f"Whether {arm(said.method)} is better than {baseline} cannot be told from {_items(said.items)}: "
        f"about {_needed(said.needed)} would be needed."
    )


def _figures(difference: Difference, said: Said) -> str:
    ours, theirs = (_share(value, said.problem) for value in (said.ours, said.theirs))
    return (
        f"On {_items(said.items)} it reaches {ours} against {theirs}, a difference of "
        f"{_points(difference.effect, said.problem)} (95 % interval "
        f"{_points(difference.low, said.problem, unit=False)} to {_points(difference.high, said.problem)})."
    )


def _needed(count: int) -> str:
    return f"more than {_MOST_NEEDED:,}" if count > _MOST_NEEDED else f"{_round(count):,}"


def _round(count: int) -> int:
    """Two digits: it is an estimate."""
    step = int(10 ** max(0, len(str(count)) - 2))
    return -(-count // step) * step


def _items(count: int) -> str:
    return f"{count:,} held-out item{'' if count == 1 else 's'}"


def _share(value: float, problem: Problem) -> str:
    if problem == "classification":
        return f"{100 * value:.1f} % right answers"
    return f"{_FIGURES[problem]} {value:.3f}"


def _points(value: float, problem: Problem, *, unit: bool = True) -> str:
    if problem == "classification":
        return f"{100 * value:+.1f}{' points' if unit else ''}"
    return f"{value:+.3f}"


def capital(text: str) -> str:
    """The text as a sentence begins."""
    return text[:1].upper() + text[1:]
