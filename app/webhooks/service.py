"""Decisions on webhooks."""

from core import secret as keys
from core.contract.webhooks import Delivery, WebhookSecret
from core.settings import Settings
from core.store import jobs, webhooks
from core.store.store import Store


def secret(store: Store, settings: Settings, tenant: str) -> WebhookSecret:
    """The tenant's secret."""
    with store.db.read() as tx:
        generation = webhooks.generation(tx, tenant)
    return WebhookSecret(secret=keys.webhook_secret(keys.master(settings), tenant, generation))


def rotate(store: Store, settings: Settings, tenant: str) -> WebhookSecret:
    """A new secret."""
    with store.db.write() as tx:
        generation = webhooks.rotate(tx, tenant)
    return WebhookSecret(secret=keys.webhook_secret(keys.master(settings), tenant, generation))


def of_job(store: Store, tenant: str, job_id: str) -> list[Delivery]:
    """Deliveries of one job; `NotFoundError`."""
    with store.db.read() as tx:
        jobs.get(tx, tenant, job_id)
        return webhooks.of_job(tx, tenant, job_id)


def retry(store: Store, tenant: str, job_id: str, delivery_id: str) -> Delivery:
    """Make it due now; `NotFoundError`, `ConflictError`."""
    with store.db.write() as tx:
        jobs.get(tx, tenant, job_id)
        return webhooks.retry(tx, tenant, job_id, delivery_id)
