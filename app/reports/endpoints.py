"""`GET /jobs/{id}/report`: JSON for programs, a page for browsers."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from app.dependencies import ReadTenant, StoreDep
from app.negotiation import preferred
from app.replies import errors
from app.reports import service
from app.reports.page import SECURITY, render
from core.contract.base import JobId
from core.contract.reports import Report

JSON, HTML = "application/json", "text/html"
_FORMS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The report, as JSON or as a page.", "content": {HTML: {"schema": {"type": "string"}}}}
}

router = APIRouter(tags=["jobs"])


@router.get(
    "/jobs/{job_id}/report",
    summary="Get a job's report",
    response_model=Report,
    responses=_FORMS | errors(404, 409),
)
def get_report(job_id: JobId, request: Request, store: StoreDep, tenant: ReadTenant) -> Response:
    """What the job found out, as JSON; with `Accept: text/html` as one self-contained page.

    409 `report_not_ready` until the job has succeeded.
    """
    job, report = service.get(store, tenant, job_id)
    if preferred(request.headers.get("accept"), (JSON, HTML)) == JSON:
        return JSONResponse(report.model_dump(mode="json"), headers={"Vary": "Accept"})
    beside = service.extras(store, tenant, job, report, base_url=str(request.base_url))
    return HTMLResponse(render(report, beside), headers=SECURITY | {"Vary": "Accept"})
