"""What the child process of a measurement does."""

from typing import Any

from core.contract.jobs import JobSpec
from worker.child import Link
from worker.engine.door import Inputs, Places


def run(link: Link, spec: JobSpec, inputs: Inputs, places: Places) -> dict[str, Any]:
    """Measure; returns what each part of it took."""
    from worker.engine.measuring import measure  # it brings torch, which the worker itself does not load

    return {"spent": [one.model_dump(mode="json") for one in measure(spec, inputs, places, should_stop=link.wish)]}
