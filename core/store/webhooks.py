"""Queries on deliveries. The row is entered in the transaction that ends the job, so no word of an end is lost."""

from sqlalchemy import Connection, insert, select

from core.contract.base import new_id, now
from core.contract.jobs import JobState
from core.store.database import clock
from core.store.tables import deliveries, jobs

T = deliveries.c


def enqueue(tx: Connection, job_id: str, state: JobState) -> None:
    """Enter the delivery that a job's end calls for, if the job has a webhook."""
    row = tx.execute(select(jobs.c.tenant, jobs.c.spec).where(jobs.c.id == job_id)).one()
    webhook = row.spec.get("webhook")
    if webhook is None:
        return
    tx.execute(
        insert(deliveries).values(
            id=new_id("whd"),
            tenant=row.tenant,
            job_id=job_id,
            url=webhook["url"],
            event=f"job.{state}",
            state="pending",
            next_at=clock(tx),
            created_at=now(),
        )
    )
