"""`/webhooks`, `/jobs/{id}/deliveries`."""

from fastapi import APIRouter

router = APIRouter(tags=["webhooks"])
