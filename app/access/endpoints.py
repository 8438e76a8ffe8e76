"""`/keys`, `/usage`, `/audit`."""

from fastapi import APIRouter

router = APIRouter(tags=["access"])
