"""How tests change a few-shot model's classes and ask it."""

import io
import zipfile
from typing import Any
from urllib.parse import quote

import numpy as np
from fastapi.testclient import TestClient

from tests.builders import encode

YELLOW = (230, 230, 20)


def plain(colour: tuple[int, int, int], side: int = 40) -> bytes:
    """An image of one colour."""
    return encode(np.full((side, side + 8, 3), colour, np.uint8))


def photos(*colours: tuple[int, int, int]) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [("files", (f"{at}.png", plain(colour), "image/png")) for at, colour in enumerate(colours)]


def yellows(count: int = 5) -> list[tuple[str, tuple[str, bytes, str]]]:
    return photos(*((230 - at, 230 - 2 * at, 20) for at in range(count)))


def add(client: TestClient, model: str, name: str = "yellow", **more: Any) -> Any:
    return client.post(f"/models/{model}/classes", data={"name": name}, files=yellows(), **more)


def remove(client: TestClient, model: str, name: str, **more: Any) -> Any:
    return client.delete(f"/models/{model}/classes/{quote(name, safe='')}", **more)


def answers(client: TestClient, model: str, *colours: tuple[int, int, int]) -> list[dict[str, Any]]:
    reply = client.post(f"/models/{model}/predict", files=photos(*colours), params={"top_k": 9})
    assert reply.status_code == 200, reply.text
    found: list[dict[str, Any]] = reply.json()["predictions"]
    return found


def label(client: TestClient, model: str, colour: tuple[int, int, int]) -> str | None:
    found: str | None = answers(client, model, colour)[0]["label"]
    return found


def error(reply: Any, status: int, code: str) -> dict[str, Any]:
    assert reply.status_code == status, reply.text
    body: dict[str, Any] = reply.json()["error"]
    assert body["code"] == code, body
    assert body["hint"]
    return body


def of_reply(reply: Any) -> dict[str, Any]:
    assert reply.status_code == 201, reply.text
    body: dict[str, Any] = reply.json()
    assert reply.headers["Location"] == f"/models/{body['id']}"
    return body


def whole(client: TestClient, model: str) -> zipfile.ZipFile:
    reply = client.get(f"/models/{model}")
    assert reply.status_code == 200
    return zipfile.ZipFile(io.BytesIO(reply.content))


def list_ids(client: TestClient) -> list[str]:
    return [found["id"] for found in client.get("/models", params={"limit": 100}).json()["data"]]
