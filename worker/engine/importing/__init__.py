"""Models from outside: nothing of an upload is believed but its tensors, and these only once they were checked.

A second, small door of the engine: `check_and_export(upload, spec, places, should_stop=…) -> Imported`.
"""

from worker.engine.importing.door import Imported, ImportSpec, check_and_export

__all__ = ["ImportSpec", "Imported", "check_and_export"]
