"""What the child process of a job does: run the engine and put its result into words."""

import importlib
from typing import Any, cast

from core.contract.jobs import JobSpec
from worker.child import Link
from worker.engine.door import Engine, Inputs, Places

DEFAULT_ENGINE = "worker.engine:run"


def run(link: Link, engine: str, spec: JobSpec, inputs: Inputs, places: Places) -> dict[str, Any]:
    """Run the engine that `engine` names (`module:function`); returns manifest, report and the bundle's path."""
    module, _, function = engine.partition(":")
    call = cast("Engine", getattr(importlib.import_module(module), function))
    result = call(spec, inputs, places, sink=link.event, should_stop=link.wish)
    return {
        "manifest": None if result.manifest is None else result.manifest.model_dump(mode="json"),
        "report": result.report.model_dump(mode="json"),
        "bundle": None if result.bundle is None else str(result.bundle),
        "costs": None if result.costs is None else result.costs.model_dump(mode="json"),
    }
