"""Names that the API and the workers agree on: a broker message only says "there is work", it carries no id.

Sending one needs nothing but a bare Celery app: `app.send_task(TASKS[queue], queue=queue, ignore_result=True)`.
"""

from typing import Any, Literal

Queue = Literal["jobs", "ingest"]
QUEUES: tuple[Queue, ...] = ("jobs", "ingest")
TASKS: dict[Queue, str] = {"jobs": "graft.wake_jobs", "ingest": "graft.wake_ingest"}

TIMEOUT_SECONDS = 2.0
"""A broker that does not answer for this long is given up on: the workers find the work in the database anyway."""


def celery_options() -> dict[str, Any]:
    """Settings for every Celery app that sends or takes wake-ups: no results, quick to give up on a dead broker."""
    return {
        "task_ignore_result": True,
        "task_default_queue": "jobs",
        "task_publish_retry": False,
        "broker_connection_timeout": TIMEOUT_SECONDS,
        "broker_connection_retry_on_startup": True,
        "broker_transport_options": {
            "visibility_timeout": 24 * 3600,
            "socket_connect_timeout": TIMEOUT_SECONDS,
            "socket_timeout": 4 * TIMEOUT_SECONDS,
        },
    }
