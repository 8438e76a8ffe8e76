"""`/methods` and `/base-models`."""

from collections.abc import Iterator

from graft._pages import iterate
from graft._transport import Transport
from graft.resources._ids import segment
from graft.types import BaseModelCard, MethodCard


class Methods:
    """The algorithms a job may run."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> Iterator[MethodCard]:
        """The whole menu."""
        return iterate(self._transport, MethodCard, "/methods")

    def get(self, name: str) -> MethodCard:
        """One method, with the JSON Schema of its options."""
        return self._transport.get(MethodCard, f"/methods/{segment(name)}")


class BaseModels:
    """The pretrained networks a job may start from."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> Iterator[BaseModelCard]:
        """The whole catalogue."""
        return iterate(self._transport, BaseModelCard, "/base-models")

    def get(self, name: str) -> BaseModelCard:
        """One card."""
        return self._transport.get(BaseModelCard, f"/base-models/{segment(name)}")
