"""`/keys`."""

from collections.abc import Iterator

from graft._pages import iterate
from graft._transport import Call, Transport
from graft.resources._ids import segment
from graft.types import Key, NewKey, Scope


class Keys:
    """Access keys of your tenant; all of this takes a key with the scope `admin`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, name: str, *, scope: Scope = "write", expires_in_days: int | None = None) -> NewKey:
        """Make a key; its `secret` is shown this once. Not repeated by itself: a lost reply may have made a key."""
        wanted = {"name": name, "scope": scope, "expires_in_days": expires_in_days}
        return self._made("/keys", {key: value for key, value in wanted.items() if value is not None})

    def list(self, *, limit: int | None = None) -> Iterator[Key]:
        """Your keys, newest first, revoked ones too."""
        return iterate(self._transport, Key, "/keys", limit=limit)

    def get(self, key: str | Key) -> Key:
        """One key."""
        return self._transport.get(Key, f"/keys/{segment(key)}")

    def rotate(self, key: str | Key, *, grace_seconds: int = 0) -> NewKey:
        """A new key in place of this one, which goes on working for `grace_seconds`."""
        return self._made(f"/keys/{segment(key)}/rotate", {"grace_seconds": grace_seconds})

    def revoke(self, key: str | Key) -> None:
        """Make a key worthless, within 5 seconds."""
        self._transport.send(Call("DELETE", f"/keys/{segment(key)}"))

    def _made(self, path: str, body: dict[str, object]) -> NewKey:
        return self._transport.parse(NewKey, self._transport.send(Call("POST", path, json=body)))
