"""`/webhooks`, `/jobs/{id}/deliveries`."""

from fastapi import APIRouter
from fastapi.responses import Response

from app.dependencies import AdminTenant, ReadTenant, SettingsDep, StoreDep, WriteTenant
from app.replies import ListReply, errors
from app.webhooks import service
from core.contract.base import DeliveryId, JobId
from core.contract.webhooks import Delivery, WebhookSecret

router = APIRouter(tags=["webhooks"])


@router.get("/webhooks/secret", summary="Get the webhook secret")
def get_webhook_secret(
    response: Response, store: StoreDep, settings: SettingsDep, tenant: AdminTenant
) -> WebhookSecret:
    """What your webhooks are signed with, as libraries for Standard Webhooks take it."""
    response.headers["Cache-Control"] = "no-store"
    return service.secret(store, settings, tenant)


@router.post("/webhooks/secret/rotate", summary="Make a new webhook secret")
def rotate_webhook_secret(
    response: Response, store: StoreDep, settings: SettingsDep, tenant: AdminTenant
) -> WebhookSecret:
    """From now on webhooks are signed with the new secret and also with the one before, until the next rotation."""
    response.headers["Cache-Control"] = "no-store"
    return service.rotate(store, settings, tenant)


@router.get("/jobs/{job_id}/deliveries", summary="List a job's webhook deliveries", responses=errors(404))
def list_deliveries(store: StoreDep, tenant: ReadTenant, job_id: JobId) -> ListReply[Delivery]:
    """What was sent of the job's end, or is still to be sent, and what came of it."""
    return ListReply[Delivery].whole(service.of_job(store, tenant, job_id))


@router.post(
    "/jobs/{job_id}/deliveries/{delivery_id}/retry",
    status_code=202,
    summary="Send a webhook again now",
    responses=errors(404, 409),
)
def retry_delivery(store: StoreDep, tenant: WriteTenant, job_id: JobId, delivery_id: DeliveryId) -> Delivery:
    """One more attempt at once, also after the last one; 409 `delivery_under_way` while one is being made."""
    return service.retry(store, tenant, job_id, delivery_id)
