"""Data sets: streamed in, looked at, deleted."""
