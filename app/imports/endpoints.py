"""`POST /models`, `/imports`."""

from fastapi import APIRouter

router = APIRouter(tags=["imports"])
