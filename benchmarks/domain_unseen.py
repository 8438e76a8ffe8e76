"""Adapted to half of a domain, measured on the other half: `python -m benchmarks.domain_unseen --data DIR`.

Tables of domain adaptation are measured on the very items that were adapted to. A service predicts new ones. Twelve
pairs of Office-Caltech10, `auto` without labels of the target; beside what it serves stand all candidates it raced.
"""

import statistics
import sys
import tempfile
from itertools import permutations
from pathlib import Path

from benchmarks import sets
from benchmarks.common import Table, parser
from benchmarks.domain_adaptation import LOSS, job
from core.contract.methods.auto import Auto
from worker.engine.door import DataRef


def adapt(source: DataRef, target: DataRef, evaluation: DataRef, scratch: Path) -> dict[str, float]:
    """What every candidate comes to on the items for evaluation, and what is `served`."""
    result = job(Auto(), source, target, scratch, evaluation=evaluation)
    arms = [arm for arm in result.report.arms if arm.state == "measured" and arm.value is not None]
    found = {arm.name: arm.value for arm in arms if arm.value is not None}
    return found | {"served": next(arm.value for arm in arms if arm.served and arm.value is not None)}


def main() -> int:
    """Run it."""
    chosen = parser((__doc__ or "").partition("\n")[0]).parse_args()
    if chosen.data is None:
        print("Name the folder with the data sets: --data DIR")
        return 2
    table = Table("domain adaptation, items not adapted to")
    domains = sets.DOMAINS[2:] if chosen.quick else sets.DOMAINS
    found: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="graft-bench-") as folder:
        scratch = Path(folder)
        whole = {name: sets.office(chosen.data, name).refer(scratch) for name in domains}
        halves = {
            name: [sets.office_half(chosen.data, name, half).refer(scratch) for half in (0, 1)] for name in domains
        }
        for one, other in permutations(domains, 2):
            for half in (0, 1):
                seen, unseen = halves[other][half], halves[other][1 - half]
                found.append(adapt(whole[one], seen, unseen, scratch))
    for name in found[0]:
        values = [one[name] for one in found if name in one]
        if len(values) == len(found):
            table.add(f"photos not adapted to, {name}, mean", 100 * statistics.mean(values), "", "%")
    gain = statistics.mean(one["served"] - one["source_only"] for one in found)
    table.add("photos not adapted to, served minus source-only", 100 * gain, ">= 0", "points")
    below = sum(one["served"] < one["source_only"] - LOSS for one in found)
    table.add(f"halves served below source-only (of {len(found)})", below, "<= 0", "halves")
    return table.finish(chosen.json)


if __name__ == "__main__":
    sys.exit(main())
