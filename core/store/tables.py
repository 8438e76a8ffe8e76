"""The tables. Every noun belongs to a tenant; times are UTC; JSON columns hold contract records."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    TypeDecorator,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Json = JSON(none_as_null=True)  # an absent value is SQL NULL, not the JSON text "null"


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time; SQLite keeps it naive, so the zone is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Give the zone back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _lease() -> tuple[Column[Any], ...]:
    """Columns of a row that a worker claims: `attempt` is the fence of every write, `lost` counts lost workers."""
    return (
        Column("attempt", Integer, nullable=False, server_default="0"),
        Column("lost", Integer, nullable=False, server_default="0"),
        Column("owner", String(128)),
        Column("lease_until", Float),
    )


datasets = Table(
    "datasets",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("name", String(256), nullable=False),
    Column("state", String(16), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("upload_sha256", String(64), nullable=False),
    Column("seed", Integer, nullable=False, server_default="0"),
    Column("content_sha256", String(64)),
    Column("manifest_sha256", String(64)),
    Column("modality", String(16)),
    Column("problem", String(16)),
    Column("reading", Json),
    Column("labelled", Boolean),
    Column("classes", Json, nullable=False),
    Column("items", Integer, nullable=False, server_default="0"),
    Column("splits", Json, nullable=False),
    Column("report", Json),
    Column("warnings", Integer, nullable=False, server_default="0"),
    Column("error", Json),
    Column("metadata", Json, nullable=False),
    Column("request_id", String(64)),
    Column("created_at", UtcDateTime, nullable=False),
    Column("ready_at", UtcDateTime),
    *_lease(),
    Index(None, "tenant", "id"),
    Index(None, "state", "id"),
    Index(None, "upload_sha256"),
    Index(None, "content_sha256"),
    Index(None, "manifest_sha256"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("spec", Json, nullable=False),
    Column("method", String(64), nullable=False),
    Column("base_model", String(128), nullable=False),
    Column("source_id", String(32)),
    Column("evaluation_id", String(32)),
    Column("target_id", String(32)),
    Column("progress", Json),
    Column("steps", Json, nullable=False),
    Column("metrics", Json, nullable=False),
    Column("resolved", Json),
    Column("verdict", String(16)),
    Column("estimate", Json),
    Column("stop_requested", Boolean, nullable=False, server_default="0"),
    Column("cancel_requested", Boolean, nullable=False, server_default="0"),
    Column("error", Json),
    Column("model_id", String(32)),
    Column("report_sha256", String(64)),
    Column("checkpoint", Json),
    Column("checkpoint_sha256", String(64)),
    Column("not_before", Float),
    Column("spent", Float, nullable=False, server_default="0"),
    Column("running_since", Float),
    Column("request_id", String(64)),
    Column("traceparent", String(64)),
    Column("last_seq", Integer, nullable=False, server_default="0"),
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    *_lease(),
    Index(None, "tenant", "id"),
    Index(None, "state", "id"),
    Index(None, "source_id"),
    Index(None, "target_id"),
    Index(None, "report_sha256"),
    Index(None, "checkpoint_sha256"),
    Index("ix_jobs_lost", "lost", sqlite_where=text("lost > 0"), postgresql_where=text("lost > 0")),
)

events = Table(
    "events",
    metadata,
    Column("job_id", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("data", Json, nullable=False),
    sqlite_with_rowid=False,
)

models = Table(
    "models",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("job_id", String(32)),
    Column("base_model", String(128), nullable=False),
    Column("method", String(64), nullable=False),
    Column("manifest", Json, nullable=False),
    Column("verdict", String(16)),
    Column("publication", Json),
    Column("files", Json, nullable=False),
    Column("bundle_sha256", String(64), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Index(None, "tenant", "id"),
    Index(None, "bundle_sha256"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("status", Integer),
    Column("reply", Json),
    Column("created_at", UtcDateTime, nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("queue", String(16), nullable=False),
    Column("host", String(255), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("stats", Json),
    Index(None, "queue", "seen_at"),
)

tenants = Table(
    "tenants",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("quota_bytes", BigInteger),
    Column("quota_queued", Integer),
    Column("quota_running", Integer),
    Column("webhook_generation", Integer, nullable=False, server_default="0"),
    Column("created_at", UtcDateTime, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("name", String(128), nullable=False),
    Column("scope", String(8), nullable=False),
    Column("prefix", String(32), nullable=False),
    Column("secret_sha256", String(64), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("last_used_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
    Index(None, "secret_sha256", unique=True),
    Index(None, "tenant", "id"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("key_id", String(32)),
    Column("action", String(64), nullable=False),
    Column("target", String(64)),
    Column("status", Integer, nullable=False),
    Column("request_id", String(64)),
    Column("address", String(64)),
    Column("details", Json, nullable=False),
    Index(None, "tenant", "id"),
    Index(None, "at"),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("received", BigInteger, nullable=False, server_default="0"),
    Column("metadata", Json, nullable=False),
    Column("dataset_id", String(32)),
    Column("error", Json),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Index(None, "tenant", "id"),
    Index(None, "state", "expires_at"),
)

imports = Table(
    "imports",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("name", String(256), nullable=False),
    Column("base_model", String(128)),
    Column("classes", Json),
    Column("bytes", BigInteger, nullable=False),
    Column("upload_sha256", String(64), nullable=False),
    Column("model_id", String(32)),
    Column("error", Json),
    Column("metadata", Json, nullable=False),
    Column("request_id", String(64)),
    Column("created_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    *_lease(),
    Index(None, "tenant", "id"),
    Index(None, "state", "id"),
    Index(None, "upload_sha256"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("job_id", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("url", String(2048), nullable=False),
    Column("event", String(32), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_at", Float),
    Column("last_status", Integer),
    Column("last_error", String(512)),
    Column("created_at", UtcDateTime, nullable=False),
    Column("delivered_at", UtcDateTime),
    Index(None, "state", "next_at"),
    Index(None, "job_id"),
    Index(None, "tenant", "id"),
)

timings = Table(
    "timings",
    metadata,
    Column("method", String(64), primary_key=True),
    Column("step", String(16), primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("buckets", Json, nullable=False),
)

profiles = Table(
    "profiles",
    metadata,
    Column("device", String(256), primary_key=True),
    Column("network", String(160), primary_key=True),
    Column("kind", String(32), primary_key=True),
    Column("variant", String(128), primary_key=True),
    Column("data", String(64), primary_key=True),
    Column("values", Json, nullable=False),
    Column("facts", Json, nullable=False),
    Column("source", String(16), nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Index(None, "network", "device"),
    Index(None, "updated_at"),
)

measurements = Table(
    "measurements",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("key", String(64), nullable=False),
    Column("spec", Json, nullable=False),
    Column("error", Json),
    Column("created_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    *_lease(),
    Index(None, "state", "id"),
    Index(None, "key", "state"),
)
