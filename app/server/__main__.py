"""The API's program: `python -m app.server --host 127.0.0.1 --port 8000`."""

import argparse
import contextlib
import sys

import uvicorn

from app.server.run import allow_files, configuration
from core.settings import Settings

FAILED_TO_START = 3


def main() -> None:
    """Serve until told to end."""
    settings = Settings()
    parser = argparse.ArgumentParser(prog="python -m app.server")
    parser.add_argument("--host", default=settings.host)
    parser.add_argument("--port", type=int, default=settings.port)
    asked = parser.parse_args()
    allow_files()
    server = uvicorn.Server(configuration("app.main:app", settings, host=asked.host, port=asked.port))
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(FAILED_TO_START)


if __name__ == "__main__":
    main()
