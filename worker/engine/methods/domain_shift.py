"""`domain_shift`: how far the target lies from the source, of which kind the shift is, and what fits it.

Gretton et al., JMLR 2012 (MMD); Lopez-Paz, Oquab, ICLR 2017 (classifier two-sample test); Lipton, Wang, Smola, ICML
2018 (class shares). On the frozen base model's features (n, D) of the source's training items and (m, D) of the
target's, whose labels are not looked at; without labels of the source nothing is told of classes. It makes a report
and no model.
"""

from core.contract.methods import DomainShift
from worker.engine.methods.adapting import domains
from worker.engine.methods.shift_report import Settings, Sides, measure
from worker.engine.task import Finding, Task


def run(task: Task) -> Finding:
    """Measure the shift. Raises `JobError` `target_required`, `too_few_items`."""
    options, data = task.options, task.data.merged()
    assert isinstance(options, DomainShift)
    both = domains(task, data)
    settings = Settings(options.max_items, options.permutations, options.level)
    sides = Sides(
        xs=both.xs,
        ys=both.ys if data.problem == "classification" and data.classes else None,
        xt=both.xt,
        classes=data.classes,
        source_names=both.source_names,
        target_names=both.target_names,
    )
    found = measure(sides, task.rng(), settings)
    told = {test.name: test for test in found.tests}
    task.sink("metric", {"mmd": told["mmd"].statistic, "a_distance": told["classifier"].effect})
    return Finding({"shift": found, "base_model": task.base.identity.card.id})
