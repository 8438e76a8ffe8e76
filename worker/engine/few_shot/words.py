"""What episodes have shown, in plain words."""

from core.contract.few_shot import EpisodeFigure
from core.contract.verdicts import Difference, Verdict
from worker.engine.few_shot.material import Material
from worker.engine.few_shot.measuring import Measured
from worker.engine.verdict_words import arm, capital


def sentence(verdict: Verdict, ours: Measured, theirs: Measured, found: Difference) -> str:
    """The verdict, on how many episodes, and how sure it is."""
    method, baseline = capital(arm(ours.name)), arm(theirs.name)
    lead = {
        "improved": f"{method} helped: new classes are learnt better than by {baseline}.",
        "harmful": f"{method} did harm: {baseline} learns new classes better.",
        "not_improved": f"{method} brought nothing of use over {baseline}.",
        "undetermined": f"Whether {arm(ours.name)} learns new classes better than {baseline} cannot be told.",
    }[verdict]
    count = min(len(ours.right), len(theirs.right))
    mean = [float(one.right[:count].mean()) for one in (ours, theirs)]
    return (
        f"{lead} On {count:,} episodes of {ours.test.ways} new classes, of each of which {ours.test.shots} item"
        f"{'s are' if ours.test.shots > 1 else ' is'} known, it reaches {mean[0]:.1%} right answers "
        f"against {mean[1]:.1%}, "
        f"a difference of {100 * found.effect:+.1f} points (95 % interval {100 * found.low:+.1f} to "
        f"{100 * found.high:+.1f} points)."
    )


def episodes(figures: list[EpisodeFigure], material: Material) -> str:
    """What was measured on."""
    classes = len(material.test_names)
    whole = "whole groups of classes" if material.split.grouped else "classes"
    where = f"{whole} that nothing was trained on" if material.data.novel is None else "classes of the evaluation data"
    first = figures[0]
    return (
        f"{first.episodes:,} episodes of each kind, of {classes} {where}. Intervals are of the mean over episodes; "
        "they do not say how other classes would do."
    )
