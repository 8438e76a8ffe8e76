"""The nouns of Graft as pydantic models. Imports nothing else of the project."""
