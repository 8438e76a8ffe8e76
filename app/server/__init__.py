"""The HTTP server: uvicorn with limits of our own, and its program `python -m app.server`."""
