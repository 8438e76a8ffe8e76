"""Keys and usage through the SDK and the command line, on the real API."""

import json
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from core.settings import Settings
from core.store import tenants
from core.store.store import Store
from graft import AuthenticationError, Graft, NotFoundError, PermissionDeniedError, RateLimitError, TooLargeError
from graft.cli import main
from tests.app.conftest import serving
from tests.app.doors import make_key
from tests.app.seed import add_dataset


@pytest.fixture
def url(settings: Settings, sqlite_store: Store) -> Iterator[str]:
    """Address of the API over SQLite, with a rate that can be reached."""
    with capture_logs(), serving(settings.model_copy(update={"rate_per_minute": 30})) as address:
        yield address


@pytest.fixture
def admin(url: str, sqlite_store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graft]:
    """The SDK with an admin's key, which the command line finds in the environment."""
    secret = make_key(sqlite_store).secret
    monkeypatch.setenv("GRAFT_API_KEY", secret)
    monkeypatch.setenv("GRAFT_URL", url)
    with Graft(max_retries=0) as client:
        yield client


def test_the_life_of_a_key(admin: Graft, url: str) -> None:
    made = admin.keys.create("robot", scope="read", expires_in_days=3)
    assert made.secret not in repr(made)
    assert [key.name for key in admin.keys.list()] == ["robot", "test"]
    with Graft(url, made.secret, max_retries=0) as robot:
        assert list(robot.jobs.list()) == []
        with pytest.raises(PermissionDeniedError) as refused:
            robot.keys.create("more")
        assert refused.value.code == "scope_too_small"
        assert "admin" in str(refused.value)
        newer = admin.keys.rotate(made)
        with pytest.raises(AuthenticationError) as ended:
            robot.usage()
        assert ended.value.code == "invalid_key"
    admin.keys.revoke(newer.id)
    assert admin.keys.get(newer).revoked_at is not None
    with pytest.raises(NotFoundError):
        admin.keys.revoke("key_never")
    with Graft(url, max_retries=0) as nobody:
        nobody._transport._http.headers.pop("Authorization", None)
        with pytest.raises(AuthenticationError) as missing:
            nobody.usage()
    assert missing.value.code == "missing_key"
    assert "GRAFT_API_KEY" in str(missing.value)


def test_limits_are_told_with_the_time_to_wait(admin: Graft, sqlite_store: Store) -> None:
    source = add_dataset(sqlite_store)
    with sqlite_store.db.write() as tx:
        tenants.change(tx, "default", {"queued": 0, "bytes": 1000})
    with pytest.raises(RateLimitError) as full:
        admin.jobs.create(source=source)
    assert (full.value.code, full.value.retry_after) == ("job_quota_exceeded", 10.0)
    found = admin.usage()
    assert (found.tenant, found.bytes, found.quotas.bytes, found.quotas.queued) == ("default", 1000, 1000, 0)
    with pytest.raises(TooLargeError) as stuffed:
        admin._transport.send(_upload())
    assert stuffed.value.code == "storage_quota_exceeded"
    with pytest.raises(RateLimitError) as often:
        for _ in range(40):
            admin.usage()
    assert often.value.code == "rate_limited"
    assert 0 < (often.value.retry_after or 0) <= 60


def _upload() -> object:
    from graft._transport import Body, Call

    return Call("POST", "/datasets", body=Body(lambda: iter([b"x" * 10]), 10, "application/zip"))


def test_the_command_line(admin: Graft, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    status, secret, told = run("keys", "create", "--name", "robot", "--scope", "read")
    assert (status, secret.count("\n"), "robot" in told) == (0, 1, True)
    listed = json.loads(run("keys", "list", "--json")[1])["data"]
    assert listed[0]["prefix"] == secret[:14]
    assert "robot" in run("keys", "list")[1]
    newer = json.loads(run("keys", "rotate", listed[0]["id"], "--grace-seconds", "60", "--json")[1])
    assert newer["name"] == "robot"
    assert run("keys", "revoke", newer["id"])[0] == 0
    assert "revoked" in run("keys", "list")[1]
    assert "default" in run("usage")[1]
    assert json.loads(run("usage", "--json")[1])["tenant"] == "default"
    status, _, told = run("--api-key", newer["secret"], "usage")
    assert (status, "invalid_key" in told) == (1, True)
