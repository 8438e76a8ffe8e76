"""Structured logs: readable lines on a terminal, JSON with `GRAFT_LOG=json`. Standard-library logs join in."""

import logging
import os
import sys
from typing import cast

import structlog
from structlog.typing import Processor

_OURS = ("app", "core", "graftd", "migrations", "worker", "__main__")


def configure(program: str, *, level: int = logging.INFO) -> None:
    """Set up logging for this process, to standard error; `program` stands in every line."""
    as_json = os.environ.get("GRAFT_LOG", "").strip().lower() == "json"
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        lambda _logger, _method, event: {**event, "program": program},
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    last: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if as_json
        else [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                pad_event_to=0,
                exception_formatter=structlog.dev.plain_traceback,  # a pretty one is slow and shows variables' values
            )
        ]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(level, logging.WARNING))  # libraries speak up only when something is wrong
    for name in _OURS:
        logging.getLogger(name).setLevel(level)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger that takes key-value pairs: `log.info("job succeeded", job=job_id)`."""
    return cast("structlog.stdlib.BoundLogger", structlog.get_logger(name))
