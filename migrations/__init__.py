"""Alembic migrations, run by `graftd migrate` on SQLite and PostgreSQL."""
