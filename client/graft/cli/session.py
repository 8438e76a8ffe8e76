"""What all commands share: the client and common options."""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import typer

from graft.client import Graft

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="How many to show.")]
Options = Annotated[
    list[str] | None, typer.Option("--option", "-p", metavar="KEY=VALUE", help="Option of the method; repeatable.")
]

TargetLabels = Annotated[
    str | None,
    typer.Option(metavar="USE", help="What labels of the target are for: evaluation (the default), few or none."),
]
TargetBaseModel = Annotated[
    str | None, typer.Option(metavar="NAME", help="Base model of a target of another modality than the source.")
]


@dataclass
class Session:
    """The service that the commands talk to."""

    url: str | None = None
    api_key: str | None = None
    timeout: float = 60.0

    @cached_property
    def client(self) -> Graft:
        """The client, made when it is first needed."""
        return Graft(self.url, self.api_key, timeout=self.timeout)

    def close(self) -> None:
        """Close the client, if there is one."""
        if "client" in vars(self):
            self.client.close()


def client(ctx: typer.Context) -> Graft:
    """The client of this run."""
    session = ctx.obj
    assert isinstance(session, Session)
    return session.client
