"""Which addresses are this machine alone."""

import pytest

from core.loopback import is_loopback, listens_on_loopback


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("LocalHost.", True),
        ("me.localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("10.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("2130706433", False),
    ],
)
def test_what_is_loopback(host: str, local: bool) -> None:
    assert is_loopback(host) is local


def test_a_name_that_does_not_resolve_to_loopback_is_not_believed() -> None:
    assert listens_on_loopback("localhost")
    assert not listens_on_loopback("no-such-host.invalid")
    assert not listens_on_loopback("")
