"""Opening a database."""

import pytest

from core.contract.errors import UnavailableError
from core.store.database import Database


def test_missing_driver_is_named_with_the_package_that_brings_it() -> None:
    with pytest.raises(UnavailableError, match="postgresql\\+pg8000") as caught:
        Database("postgresql+pg8000://localhost/graft")
    assert caught.value.code == "driver_missing"
    assert "graft-server[postgres]" in str(caught.value.hint)
