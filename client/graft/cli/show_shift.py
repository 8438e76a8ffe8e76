"""How the shift between two domains looks on a terminal."""

from graft.cli.output import say, table
from graft.types import ClassShift, Shift, ShiftTest

_TESTS = {"mmd": "MMD, share of the spread", "classifier": "classifier, A-distance"}
_ROWS = 15
_DRIVERS = 3


def shift(found: Shift) -> None:
    """The sentence, the tests, what moved most, and items to look at."""
    say(
        f"Domain shift ({found.size}, {found.kind}): {found.source_items} source and {found.target_items} target items."
    )
    say(found.sentence)
    after = {test.name: test for test in found.after.tests} if found.after else {}
    heads = ("test", "effect", "95 % interval", "p", *(("after",) if after else ()))
    table(heads, [_test(test, after.get(test.name)) for test in found.tests])
    if found.classes:
        table(("class", "source", "target", "source share", "target share", "moved by"), _classes(found.classes))
    if len(found.classes) > _ROWS:
        say(f"(the {_ROWS} of {len(found.classes)} classes that moved most)")
    for domain, other in (("target", "source"), ("source", "target")):
        names = [driver.name for driver in found.drivers if driver.domain == domain][:_DRIVERS]
        if names:
            say(f"{domain.capitalize()} items least like the {other}: {', '.join(names)}")


def _test(test: ShiftTest, after: ShiftTest | None) -> tuple[object, ...]:
    span = f"{test.low:.4f} to {test.high:.4f}"
    then = () if after is None else (f"{after.effect:.4f}",)
    return (_TESTS.get(test.name, test.name), f"{test.effect:.4f}", span, f"{test.p_value:.3f}", *then)


def _classes(rows: list[ClassShift]) -> list[tuple[object, ...]]:
    ordered = sorted(rows, key=lambda row: -1.0 if row.distance is None else row.distance, reverse=True)
    return [
        (
            row.name,
            row.source_items,
            row.target_items,
            f"{row.source_share:.1%}",
            f"{row.target_share:.1%}",
            "" if row.distance is None else f"{row.distance:.2f}",
        )
        for row in ordered[:_ROWS]
    ]
