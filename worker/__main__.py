"""`python -m worker --queue jobs`: one worker process. Several are started by `graftd worker` and `graftd up`."""

import argparse
import signal

from core import logs, tracing
from core.settings import Settings
from core.wakeup import QUEUES
from worker import children, folders
from worker.jobs_child import DEFAULT_ENGINE
from worker.shell import Worker


def main() -> None:
    """Work until SIGTERM or SIGINT; running work is then handed back."""
    parser = argparse.ArgumentParser(prog="python -m worker", description="Does the work of one queue.")
    parser.add_argument("--queue", choices=QUEUES, required=True, help="Kind of work.")
    parser.add_argument("--engine", default=DEFAULT_ENGINE, help="Engine as module:function (for tests).")
    arguments = parser.parse_args()
    logs.configure(f"worker-{arguments.queue}")
    children.warm(arguments.queue)
    folders.mark_temporary()
    settings = Settings()
    tracing.start("graft-worker", settings)
    worker = Worker(settings, arguments.queue, engine=arguments.engine)
    signal.signal(signal.SIGTERM, worker.on_signal)
    signal.signal(signal.SIGINT, worker.on_signal)
    try:
        worker.start()
        logs.get_logger(__name__).info("worker started", queue=worker.queue, id=worker.id)
        worker.listen()
    finally:
        worker.stop()
        tracing.stop()


if __name__ == "__main__":
    main()
