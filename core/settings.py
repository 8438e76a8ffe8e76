"""Settings of the service, read from `GRAFT_*` environment variables; one class for API, worker and supervisor."""

from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from core.outbound import Network, parse_networks

MIB = 1024 * 1024


class Settings(BaseSettings):
    """Every knob has a default that works on a laptop."""

    model_config = SettingsConfigDict(env_prefix="GRAFT_", extra="ignore", frozen=True)

    data_dir: Path = Field(default=Path("data"), description="Folder for everything the service keeps.")
    database_url: str | None = Field(default=None, description="SQLAlchemy URL; default is SQLite in `data_dir`.")
    broker_url: str | None = Field(
        default=None, description="redis:// URL; `graftd up` starts an own Valkey without it."
    )
    weights_dir: Path | None = Field(default=None, description="Folder with weights files, for use without a network.")
    host: str = Field(default="127.0.0.1", description="Address the API listens on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port the API listens on.")
    device: str = Field(
        default="auto", pattern=r"^(auto|cpu|cuda(:[0-9]{1,3})?)$", description="`auto`, `cpu`, `cuda` or `cuda:N`."
    )
    threads: int = Field(default=0, ge=0, description="CPU threads of one job; 0 takes all cores.")

    lease_seconds: float = Field(default=15.0, gt=0, description="A worker silent for longer has lost its job.")
    sweep_seconds: float = Field(default=5.0, gt=0, description="How often lost or unseen work is looked for.")
    max_attempts: int = Field(default=3, ge=1, description="Lost workers of one job before it fails as `worker_lost`.")
    checkpoint_seconds: float = Field(default=30.0, gt=0, description="How often a job in training saves its state.")
    stall_seconds: float = Field(default=900.0, gt=0, description="A job without a sign of life for longer is ended.")
    shutdown_seconds: float = Field(
        default=8.0, gt=0, description="How long a worker that is told to end waits for its job's checkpoint."
    )

    allowed_hosts: str = Field(
        default="", description="Host names, separated by commas, that a service without keys answers to on loopback."
    )
    rate_per_minute: int = Field(default=1200, ge=0, description="Requests of one access key per minute; 0: no limit.")
    quota_bytes: int | None = Field(
        default=None, ge=0, description="Bytes a tenant may keep, unless it has its own quota."
    )
    quota_queued: int | None = Field(default=None, ge=0, description="Jobs of a tenant that may wait, likewise.")
    quota_running: int | None = Field(
        default=None, ge=1, description="Jobs of a tenant that may run at once, likewise."
    )
    audit_days: int = Field(default=365, ge=1, description="How long the audit log is kept.")
    webhook_allow: str = Field(
        default="", description="Networks that are not public but may be sent webhooks, e.g. `127.0.0.0/8,10.1.0.0/16`."
    )
    secret: SecretStr | None = Field(
        default=None, description="Key that webhook signatures derive from; default is a file made in `data_dir`."
    )
    garbage_seconds: float = Field(
        default=24 * 3600, ge=0, description="Age at which files that nothing names are removed."
    )
    upload_seconds: float = Field(default=24 * 3600, gt=0, description="How long an unfinished upload can be resumed.")
    idempotency_seconds: float = Field(
        default=24 * 3600, gt=0, description="How long an Idempotency-Key is remembered."
    )
    idle_seconds: float = Field(
        default=60.0, gt=0, description="A client that sends or takes nothing for longer is hung up on."
    )
    max_header_bytes: int = Field(default=64 * 1024, ge=1024, description="Most bytes in a request's line and headers.")
    otlp_endpoint: str | None = Field(
        default=None, description="OpenTelemetry collector (http) that traces are sent to."
    )

    max_upload_bytes: int = Field(default=20 * 1024 * MIB, description="Largest upload.")
    max_json_bytes: int = Field(default=1 * MIB, description="Largest JSON body, prediction requests aside.")
    max_predict_bytes: int = Field(default=64 * MIB, description="Largest prediction request.")
    max_predict_items: int = Field(default=256, ge=1, description="Most images or texts in one prediction request.")
    max_predict_rows: int = Field(default=10_000, ge=1, description="Most rows of a table in one prediction request.")
    max_entries: int = Field(default=1_000_000, description="Most entries in an archive.")
    max_unpacked_bytes: int = Field(default=100 * 1024 * MIB, description="Most bytes an archive may unpack to.")
    max_item_bytes: int = Field(default=64 * MIB, description="Largest single item after inflating.")
    max_ratio: float = Field(default=200.0, description="Largest inflation ratio of an archive or entry above 1 MiB.")
    max_pixels: int = Field(default=40_000_000, description="Largest image, from its header, before decoding.")
    max_classes: int = Field(default=2_000, description="Most classes of a data set.")
    max_rows: int = Field(default=1_000_000, ge=1, description="Most rows of a table.")
    max_columns: int = Field(default=2_000, ge=1, description="Most columns of a table.")
    max_table_bytes: int = Field(
        default=4 * 1024 * MIB, ge=1, description="Largest table, unpacked; it is held in memory while it is checked."
    )
    predict_threads: int = Field(default=0, ge=0, description="CPU threads of one prediction; 0 takes all cores.")
    sessions: int = Field(default=8, ge=1, description="ONNX Runtime sessions the API keeps open.")
    cache_bytes: int = Field(default=10 * 1024 * MIB, description="Size of the cache of features and graphs on disk.")
    features: Literal["fp32", "fp16"] = Field(
        default="fp32", description="How features are kept in the cache: `fp16` takes half the space."
    )

    @field_validator("webhook_allow")
    @classmethod
    def _networks(cls, text: str) -> str:
        parse_networks(text)
        return text

    @property
    def webhook_networks(self) -> tuple[Network, ...]:
        """`webhook_allow`, read."""
        return parse_networks(self.webhook_allow)

    @cached_property
    def root(self) -> Path:
        """`data_dir` as an absolute path."""
        return self.data_dir.expanduser().resolve()

    @property
    def resolved_database_url(self) -> str:
        """The database URL with the embedded default filled in."""
        return self.database_url or f"sqlite:///{self.root / 'graft.db'}"

    @property
    def resolved_broker_url(self) -> str:
        """The broker URL with the embedded default filled in: a unix socket below `data_dir`."""
        return self.broker_url or f"redis+socket://{self.root / 'broker' / 'valkey.sock'}"
