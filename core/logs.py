"""Structured logs: readable lines on a terminal, JSON with `GRAFT_LOG=json`. Standard-library logs join in.

One line per event. What it is about (`request_id`, `job`, `dataset`, `tenant`, `worker`) is bound once with `bind` and
stands in every line below it. Secrets are masked in the last step, also in the texts of exceptions.
"""

import logging
import os
import sys
import threading
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, cast

import structlog
from structlog.typing import Processor

from core.masking import plain

_OURS = ("app", "core", "graftd", "migrations", "worker", "__main__")
_OWN_HANDLERS = ("uvicorn", "uvicorn.error", "uvicorn.access", "celery", "celery.task", "py.warnings")


def configure(program: str, *, level: int = logging.INFO) -> None:
    """Set up logging for this process, to standard error; `program` stands in every line."""
    as_json = os.environ.get("GRAFT_LOG", "").strip().lower() == "json"
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        lambda _logger, _method, event: {**event, "program": program},
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_last(as_json=as_json))
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(level, logging.WARNING))  # libraries speak up only when something is wrong
    for name in _OURS:
        logging.getLogger(name).setLevel(level)
    _catch_all()


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger that takes key-value pairs: `log.info("job succeeded", job=job_id)`."""
    return cast("structlog.stdlib.BoundLogger", structlog.get_logger(name))


@contextmanager
def bind(**ids: Any) -> Iterator[None]:
    """Put these into every line that this thread or task logs inside the block; None leaves a name out.

    Blocks nest, and leaving one restores what was bound before, whatever was noted inside. A new thread starts with
    nothing bound: give it `ids_bound()` of the thread that started it.
    """
    before = ids_bound()
    note(**ids)
    try:
        yield
    finally:
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(**before)


def note(**ids: Any) -> None:
    """Bind more until the surrounding `bind` block ends, for what is learnt on the way (e.g. the tenant)."""
    structlog.contextvars.bind_contextvars(**{name: value for name, value in ids.items() if value is not None})


def ids_bound() -> dict[str, Any]:
    """What is bound here, to be bound again in a thread or a child process: `bind(**ids_bound())`."""
    return structlog.contextvars.get_contextvars()


def _last(*, as_json: bool) -> list[Processor]:
    """The steps that every line takes, ours and a library's: the exception as text, masked, rendered."""
    rendered: Processor = (
        structlog.processors.JSONRenderer(allow_nan=False)
        if as_json
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            pad_event_to=0,
            exception_formatter=structlog.dev.plain_traceback,  # a pretty one is slow and shows variables' values
        )
    )
    names: list[Processor] = [_logger_name] if as_json else []
    return [
        *names,
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        _masked,
        rendered,
    ]


def _logger_name(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event["logger"] = event["_record"].name
    return event


def _masked(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return cast("dict[str, Any]", plain(event))


def _catch_all() -> None:
    """Lead into the logs what would go past them: libraries' own handlers, warnings, exceptions nobody caught."""
    logging.captureWarnings(True)
    for name in _OWN_HANDLERS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    sys.unraisablehook = _unraisable


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    get_logger(__name__).critical("the program ends by an unexpected error", exc_info=(kind, error, trace))


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is None or issubclass(args.exc_type, SystemExit):
        return
    name = args.thread.name if args.thread else None
    found = (args.exc_type, args.exc_value, args.exc_traceback)
    get_logger(__name__).error("a thread ended by an unexpected error", thread=name, exc_info=found)


def _unraisable(args: "sys.UnraisableHookArgs") -> None:
    error = args.exc_value
    found = (args.exc_type, error, args.exc_traceback) if error is not None else None
    get_logger(__name__).error("an error that nobody could catch", what=repr(args.object), exc_info=found)
