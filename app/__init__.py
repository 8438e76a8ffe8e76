"""The API: FastAPI without torch. One folder per noun: endpoints parse, services decide, the store queries."""
