"""The command schedule."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelkin.cli.options import (
    BUDGET,
    AuthorOption,
    BudgetOption,
    EndpointOption,
    FilterOption,
    GraphOption,
    HubArgument,
    InferredOption,
    JobsOption,
    JsonOption,
    LimitOption,
    ListingOption,
    MetadataOption,
    ModeChoice,
    ModeOption,
    SearchOption,
    SortChoice,
    SortOption,
    available_cpus,
    choice_of,
)
from modelkin.cli.output import note

if TYPE_CHECKING:
    from modelkin.nightly import RunReport

__all__ = ["register"]

_GRAPH = Path("graph")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(schedule)


def schedule(
    cron: Annotated[str, typer.Option("--cron", metavar='"M H D M W"', help="When, as cron has it, in local time.")],
    source: HubArgument = "hub",
    graph: GraphOption = _GRAPH,
    mode: ModeOption = ModeChoice.default,
    inferred: InferredOption = True,
    use_metadata: MetadataOption = None,
    endpoint: EndpointOption = None,
    author: AuthorOption = None,
    search: SearchOption = None,
    filter: FilterOption = None,
    limit: LimitOption = None,
    sort: SortOption = SortChoice.created,
    listing: ListingOption = None,
    budget: BudgetOption = BUDGET,
    now: Annotated[bool, typer.Option("--now", help="Run once at the start, too.")] = False,
    metrics_port: Annotated[
        int | None,
        typer.Option("--metrics-port", min=0, max=65535, metavar="PORT", help="Answer Prometheus there; 0: any port."),
    ] = None,
    metrics_host: Annotated[
        str, typer.Option("--metrics-host", metavar="ADDRESS", help="Address to answer Prometheus on.")
    ] = "127.0.0.1",
    jobs: JobsOption = None,
    json: JsonOption = False,
) -> None:
    """Do the nightly run on a schedule.

    The schedule is kept in the graph's folder: a run missed while this was not running is caught up once.
    """
    from modelkin.cli.runs import print_report
    from modelkin.cron import BadCronError
    from modelkin.schedule import Job, serve

    def report(done: RunReport) -> None:
        print_report(done, json)

    choice = choice_of(source, endpoint, author, search, filter, limit, sort, listing)
    job = Job(
        str(graph.expanduser().absolute()), choice, mode.value, budget, use_metadata, inferred, jobs or available_cpus()
    )
    try:
        with ExitStack() as stack:
            metrics = None
            if metrics_port is not None:
                from modelkin.metrics import Metrics

                metrics = Metrics()
                note(f"metrics on {stack.enter_context(metrics.serving(metrics_port, metrics_host))}")
            serve(job, cron, now=now, tell=note, report=report, metrics=metrics)
    except BadCronError as error:
        raise typer.BadParameter(str(error), param_hint="--cron") from error
