"""Models: list, download, delete."""
