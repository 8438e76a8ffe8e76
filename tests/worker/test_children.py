import platform
from typing import Any

import pytest

from tests.worker import engines
from worker.children import Child, supervise

MIB = 1024 * 1024


class _Nobody:
    def event(self, kind: str, data: dict[str, Any]) -> None:
        """Nothing is reported."""

    def tick(self) -> Any:
        return "go_on"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only its malloc is told so")
def test_a_child_reuses_the_memory_that_it_has_freed() -> None:
    result = supervise(Child(engines.allocate, "memory", (128 * MIB,)), _Nobody(), max_seconds=60).result
    assert result is not None
    first, second = result["faults"]
    assert first > 20
    assert second <= first / 10  # a mapping of its own would be cleared again, page by page
