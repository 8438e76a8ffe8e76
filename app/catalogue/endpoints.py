"""`GET /methods` and `GET /base-models`: what a job can be made of."""

from fastapi import APIRouter, Depends

from app.catalogue import service
from app.dependencies import Needs
from app.replies import ListReply, errors
from core.catalogue import cards
from core.contract.base_models import BaseModelCard
from core.contract.methods import MethodCard, method_cards

router = APIRouter(tags=["catalogue"], dependencies=[Depends(Needs("read"))])


@router.get("/methods", summary="List methods")
async def list_methods() -> ListReply[MethodCard]:
    """Every method, with the JSON Schema of its options."""
    return ListReply[MethodCard].whole(method_cards())


@router.get("/methods/{name}", summary="Get a method", responses=errors(404))
async def get_method(name: str) -> MethodCard:
    """One method, with the JSON Schema of its options."""
    return service.method(name)


@router.get("/base-models", summary="List base models")
async def list_base_models() -> ListReply[BaseModelCard]:
    """Every base model of the catalogue, smallest network first."""
    return ListReply[BaseModelCard].whole(cards())


@router.get("/base-models/{id}", summary="Get a base model", responses=errors(404))
async def get_base_model(id: str) -> BaseModelCard:  # noqa: A002 - the path names it so
    """One base model of the catalogue."""
    return service.base_model(id)
