"""The command line `graft`: the SDK with tables, progress bars and exit codes."""

from graft.cli.app import main

__all__ = ["main"]
