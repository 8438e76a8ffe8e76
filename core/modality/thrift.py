"""Thrift's compact protocol, as far as Parquet needs it: numbers and what holds them."""

from typing import Any

_DEEPEST = 16


class Compact:
    """Thrift's compact protocol: structs as {field id: value}; what is not needed is read past."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def read(self) -> int:
        """Bytes read so far."""
        return self._at

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """The struct that begins here."""
        if depth > _DEEPEST:
            raise ValueError("too deep")
        found: dict[int, Any] = {}
        last = 0
        while (head := self._byte()) != 0:
            last = last + (head >> 4) if head >> 4 else self._zigzag()
            found[last] = self._value(head & 15, depth, in_list=False)
        return found

    def _value(self, kind: int, depth: int, *, in_list: bool) -> Any:
        if kind in (1, 2):
            return self._byte() == 1 if in_list else kind == 1
        if kind in (4, 5, 6):
            return self._zigzag()
        if kind in (9, 10):
            return self._list(depth)
        if kind == 12:
            return self.struct(depth + 1)
        return self._unneeded(kind, depth)

    def _unneeded(self, kind: int, depth: int) -> None:
        """A byte, a double, bytes or a map: read past."""
        if kind == 3:
            self._byte()
        elif kind == 7:
            self._take(8)
        elif kind == 8:
            self._take(self._varint())
        elif kind == 11:
            self._map(depth)
        else:
            raise ValueError(f"unknown type {kind}")

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._varint()
        self._expect(count)
        return [self._value(head & 15, depth + 1, in_list=True) for _ in range(count)]

    def _map(self, depth: int) -> None:
        count = self._varint()
        self._expect(count)
        kinds = self._byte() if count else 0
        for _ in range(count):
            self._value(kinds >> 4, depth + 1, in_list=True)
            self._value(kinds & 15, depth + 1, in_list=True)

    def _expect(self, count: int) -> None:
        """No element takes less than a byte."""
        if count > len(self._data) - self._at:
            raise ValueError("a list is longer than the data")

    def _byte(self) -> int:
        value = self._data[self._at]
        self._at += 1
        return value

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a number is too long")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _take(self, length: int) -> None:
        if length > len(self._data) - self._at:
            raise IndexError("the data ends too early")
        self._at += length
