"""The log: one line per event, its ids in it, no secrets, and valid JSON whoever speaks."""

import contextvars
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import structlog

from core import logs
from core.masking import HIDDEN, mask, plain

ROOT = Path(__file__).parents[2]
KEY = "graft_k7Qm2xZ81bTfWq93LsPd0aYv_Nc-4RhE6uJiOpX"
SECRETS = [KEY, "whsec_c2VjcmV0IG9mIGEgd2ViaG9vaw==", "hunter2", "c0ffeeF00d", "tok3n-in-query", "dXNlcjpwYXNz"]

LINES = f"""
import logging, os, sys, threading, warnings
from core import logs
logs.configure("probe")
log = logs.get_logger("core.probe")
with logs.bind(request_id="req_1", tenant="default", job=None):
    log.info("a plain event", url="postgresql+psycopg://graft:hunter2@db/graft")
    log.info("a key {KEY} in the text", headers={{"Authorization": "Basic dXNlcjpwYXNz"}})
    log.info("nested", webhook={{"url": "https://example.org/hook?key=tok3n-in-query", "tries": [1, float("nan")]}})
    log.info("several\\nlines", odd=b"\\xff", keys={{1: 2, ("a", 1): object}})
    try:
        raise ValueError("redis://:c0ffeeF00d@broker:6379/0 refused, Authorization: Bearer {KEY}")
    except ValueError:
        log.exception("caught", password="hunter2")
        log.warning("with a secret", secret="{SECRETS[1]}", text="said whsec_c2VjcmV0IG9mIGEgd2ViaG9vaw==")
logging.getLogger("uvicorn.error").error("uvicorn says %s", "{KEY}")
logging.getLogger("celery.worker.consumer").warning("celery lost redis://user:hunter2@broker//")
warnings.warn("a warning about password=hunter2")
import sqlalchemy as sa
engine = sa.create_engine("sqlite://")
logging.getLogger("sqlalchemy.engine").setLevel(logging.INFO)
with engine.connect() as connection:
    connection.execute(sa.text("select :x"), {{"x": "{KEY}"}})
def fail():
    raise RuntimeError("in a thread with {KEY}")
thread = threading.Thread(target=fail, name="failing"); thread.start(); thread.join()
class Bad:
    def __del__(self): raise RuntimeError("in a finaliser")
    def __str__(self): raise TypeError("cannot")
log.info("a value that cannot be shown", value=Bad())
raise RuntimeError("at the end, hunter2@ and https://h/x?tok3n-in-query")
"""


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | environment, timeout=120)


def test_every_line_is_json_and_none_holds_a_secret() -> None:
    done = run(LINES, GRAFT_LOG="json")
    assert done.returncode == 1
    lines = [json.loads(line, parse_constant=pytest.fail) for line in done.stderr.splitlines()]
    assert all(line["program"] == "probe" and line["level"] and line["timestamp"] for line in lines)
    said = "\n".join(line["event"] for line in lines)
    for expected in ("uvicorn says", "celery lost", "a warning about", "select ?", "a thread ended", "nobody could"):
        assert expected in said
    assert lines[-1]["event"] == "the program ends by an unexpected error"
    assert "RuntimeError: at the end" in lines[-1]["exception"]
    for line in lines[:6]:
        assert (line["request_id"], line["tenant"], "job" in line) == ("req_1", "default", False)
    assert "request_id" not in lines[6]
    assert lines[0]["url"] == f"postgresql+psycopg://graft:{HIDDEN}@db/graft"
    assert lines[2]["webhook"] == {"url": f"https://example.org/hook?{HIDDEN}", "tries": [1, "nan"]}
    assert "redis://:***@broker:6379/0 refused" in lines[4]["exception"]
    for secret in SECRETS[:2] + SECRETS[3:]:
        assert secret not in done.stderr
    assert done.stderr.count("hunter2") == 1  # the last line's, which nothing marks as a password


def test_the_readable_form_hides_the_same() -> None:
    done = run(LINES)
    assert "a plain event" in done.stderr
    assert "request_id=req_1" in done.stderr
    assert "Traceback" in done.stderr
    for secret in SECRETS[:2] + SECRETS[3:]:
        assert secret not in done.stderr
    assert done.stderr.count("hunter2") == 1


@pytest.mark.parametrize(
    "text",
    [
        "graft_http_request_seconds_bucket",
        "graft_predict_items_total is a counter",
        "basic requirements are met",
        "http://127.0.0.1:8000/jobs",
        "sqlite:////srv/graft/graft.db",
        "job_01k9zq3w6v8d4m2x7c5t0b1n9r at 12:30",
        "the token is short",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert mask(text) == text


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("postgresql://u:p@ss@w0rd@host/db", "postgresql://u:***@host/db"),
        ("{'password': 'abc def'}", "abc"),
        ('{"api_key": "abcdef"}', "abcdef"),
        ("connection failed: host=db password=hunter2 user=x", "hunter2"),
        (f"(b'authorization', b'Bearer {KEY}')", KEY),
        ("GET https://h.example/a/b?sig=1&x=2 refused", "sig=1"),
    ],
)
def test_secrets_in_all_their_dresses(text: str, hidden: str) -> None:
    masked = mask(text)
    assert masked == hidden if "***" in hidden else hidden not in masked
    assert "***" in masked


def test_hostile_values_cost_little() -> None:
    hostile = [
        "://" + "a:" * 50_000,
        "graft_" * 20_000,
        "password=" * 10_000,
        "http://" * 20_000,
        "Basic " + "a" * 99_999,
    ]
    began = time.monotonic()
    for text in hostile:
        assert len(plain(text)) < 20_000
    assert time.monotonic() - began < 5
    deep: list[object] = []
    for _ in range(1000):
        deep = [deep]
    json.dumps(plain({"deep": deep}))


def test_bound_ids_nest_and_are_restored() -> None:
    with logs.bind(request_id="req_1"):
        with logs.bind(job="job_1", request_id="req_2"):
            logs.note(tenant="t")
            assert logs.ids_bound() == {"request_id": "req_2", "job": "job_1", "tenant": "t"}
        assert logs.ids_bound() == {"request_id": "req_1"}
        with pytest.raises(ValueError, match="x"), logs.bind(job="job_2"):
            raise ValueError("x")
        assert logs.ids_bound() == {"request_id": "req_1"}
    assert logs.ids_bound() == {}


def test_bound_ids_do_not_leak_between_threads() -> None:
    seen: dict[int, dict[str, object]] = {}

    def work(i: int) -> None:
        before = logs.ids_bound()
        with logs.bind(job=f"job_{i}"):
            time.sleep(0.01)
            seen[i] = {**before, **logs.ids_bound()}

    with logs.bind(request_id="req_1"):
        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        threads.append(threading.Thread(target=contextvars.copy_context().run, args=(work, 8)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [seen[i] for i in range(8)] == [{"job": f"job_{i}"} for i in range(8)]
    assert seen[8] == {"request_id": "req_1", "job": "job_8"}
    assert structlog.contextvars.get_contextvars() == {}
