"""`/jobs`."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Header, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response, StreamingResponse

from app.dependencies import IdempotencyKey, ReadTenant, SettingsDep, StoreDep, WriteTenant, known_query
from app.jobs import estimates, service
from app.jobs.estimates import DryRun
from app.jobs.schemas import EventFilter, JobFilter
from app.jobs.stream import HEADERS, stream
from app.negotiation import preferred
from app.replies import ListReply, errors
from app.wakeup import WakeupDep
from core.contract.base import JobId
from core.contract.jobs import Event, Job, JobSpec
from core.contract.methods import METHODS
from core.outbound import check_url
from core.store import jobs

router = APIRouter(prefix="/jobs", tags=["jobs"])

_SOURCE = "ds_01k9zq3w6v8d4m2x7c5t0b1n9r"
_TARGET = "ds_01k9zq4b2m7c9x5d3v8t6w1n0p"
_EXAMPLES: Any = {
    "auto": {"summary": "The best of what is worth running, the default", "value": {"source": _SOURCE}},
    "linear_probe": {
        "summary": "A linear probe: seconds",
        "value": {"method": {"name": "linear_probe"}, "source": _SOURCE},
    },
    "fine_tune": {
        "summary": "Fine-tuning of the last stages",
        "value": {"method": {"name": "fine_tune", "epochs": 5, "freeze": "none"}, "source": _SOURCE, "seed": 1},
    },
    "target": {
        "summary": "To adapt to data of a new domain, which needs no labels",
        "value": {"source": _SOURCE, "target": _TARGET},
    },
    "rank_base_models": {
        "summary": "Which base model to take: a report without a model",
        "value": {"method": {"name": "rank_base_models", "base_models": "all"}, "source": _SOURCE},
    },
}
_EXAMPLES |= {
    name: {"summary": options.title, "value": {"method": {"name": name}, "source": _SOURCE, "target": _TARGET}}
    for name, options in METHODS.items()
    if options.adapts
}
_EXAMPLES |= {
    name: {"summary": options.title, "value": {"method": {"name": name}, "source": _SOURCE}}
    for name, options in METHODS.items()
    if options.episodic
}
_EXAMPLES["without_source"] = {
    "summary": "One of your own models, adapted to a new domain without the data that it learnt from",
    "value": {"method": {"name": "shot"}, "base_model": "mdl_" + "0" * 26, "target": _TARGET},
}
_EXAMPLES["adapt_few_shot"] = {
    "summary": "A plain model from a few items of each class",
    "value": {"method": {"name": "adapt_few_shot"}, "source": _SOURCE, "base_model": "mdl_" + "0" * 26},
}
_DRY_RUN: dict[int | str, dict[str, Any]] = {
    200: {"model": DryRun, "description": "With `dry_run`: the job is valid, and this is what it would cost."}
}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A page of events, or all events as they happen with `Accept: text/event-stream`.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


@router.post(
    "",
    status_code=201,
    response_model=Job,
    operation_id="create_job",
    summary="Launch a job, or estimate what it would cost",
    responses={**_DRY_RUN, **errors(400, 404, 409, 413, 415)},
    dependencies=[Depends(known_query)],
)
async def create(
    *,
    request: Request,
    store: StoreDep,
    tenant: WriteTenant,
    wakeup: WakeupDep,
    settings: SettingsDep,
    spec: Annotated[JobSpec, Body(openapi_examples=_EXAMPLES)],
    dry_run: Annotated[
        bool,
        Query(
            description="Only check the job and estimate its time, memory and disk: nothing is launched, and an "
            "`Idempotency-Key` is ignored. Takes up to 20 s, where a worker has to time a few steps first."
        ),
    ] = False,
    key: IdempotencyKey = None,
) -> Response:
    """Adapt a base model to a data set. The reply says `queued`; follow `/jobs/{id}/events` from there.

    A job that cannot fit into the worker's memory or disk is refused as `does_not_fit`, with what would fit.
    """
    if spec.webhook is not None:
        await run_in_threadpool(check_url, spec.webhook.url, settings.webhook_networks, param="webhook.url")
    if dry_run:
        found = await estimates.dry_run(store, settings, tenant, spec, wakeup)
        return JSONResponse(found.model_dump(mode="json"))
    launch = partial(service.create, store, settings, tenant, spec, key=key, request_id=request.state.request_id)
    created = await run_in_threadpool(launch)  # committed
    wakeup.send("jobs")
    return created.reply("jobs")


@router.get("", operation_id="list_jobs", summary="List jobs")
def list_all(store: StoreDep, tenant: ReadTenant, wanted: Annotated[JobFilter, Query()]) -> ListReply[Job]:
    """Your jobs, newest first."""
    with store.db.read() as tx:
        page = jobs.page(
            tx,
            tenant,
            state=wanted.state,
            method=wanted.method,
            source=wanted.source,
            target=wanted.target,
            cursor=wanted.cursor,
            limit=wanted.limit,
        )
    return ListReply.of(page)


@router.get("/{job_id}", operation_id="get_job", summary="Get a job", responses=errors(404))
def get(store: StoreDep, tenant: ReadTenant, job_id: JobId) -> Job:
    """One job: state, progress, steps, figures, error, model."""
    with store.db.read() as tx:
        return jobs.get(tx, tenant, job_id)


@router.post(
    "/{job_id}/stop",
    status_code=202,
    operation_id="stop_job",
    summary="Finish a job now, keep the best so far",
    responses=errors(404, 409),
)
def stop(store: StoreDep, tenant: WriteTenant, job_id: JobId) -> Job:
    """The running step is finished, then the best model so far is evaluated and stored."""
    return service.request_end(store, tenant, job_id, cancel=False)


@router.post(
    "/{job_id}/cancel",
    status_code=202,
    operation_id="cancel_job",
    summary="Cancel a job and discard what it made",
    responses=errors(404, 409),
)
def cancel(store: StoreDep, tenant: WriteTenant, job_id: JobId) -> Job:
    """A queued job ends at once, a running one within seconds."""
    return service.request_end(store, tenant, job_id, cancel=True)


@router.delete(
    "/{job_id}", status_code=204, operation_id="delete_job", summary="Delete a job", responses=errors(404, 409)
)
def delete(store: StoreDep, tenant: WriteTenant, job_id: JobId) -> None:
    """Delete a finished job with its events, report and deliveries; its model stays. 409 while it is not finished."""
    service.remove(store, tenant, job_id)


@router.get(
    "/{job_id}/events",
    response_model=ListReply[Event],
    operation_id="list_events",
    summary="List or follow a job's events",
    responses={**_STREAM, **errors(404)},
)
async def events(
    *,
    request: Request,
    store: StoreDep,
    tenant: ReadTenant,
    job_id: JobId,
    wanted: Annotated[EventFilter, Query()],
    last: Annotated[
        str | None, Header(alias="Last-Event-ID", pattern=r"^[0-9]{1,9}$", description="Go on after this event.")
    ] = None,
) -> Response:
    """A stream ends with `event: end` after a terminal state; after a lost connection it goes on where it was."""
    seq = wanted.seq if last is None else int(last)
    page = await run_in_threadpool(service.events_page, store, tenant, job_id, seq, wanted.limit)
    if preferred(request.headers.get("accept"), ("application/json", "text/event-stream")) == "text/event-stream":
        body = stream(store, request.app.state.tailer, tenant, job_id, seq=seq)
        return StreamingResponse(body, media_type="text/event-stream", headers=HEADERS)
    return JSONResponse(ListReply.of(page).model_dump(mode="json"))
