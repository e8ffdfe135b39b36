"""Commands that write to the graph: index, crawl, update, nightly."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
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
    UpdateMetadataOption,
    available_cpus,
    choice_of,
)
from modelkin.cli.output import print_json, print_lines
from modelkin.sources import SourceChoice

if TYPE_CHECKING:
    from modelkin.nightly import RunReport

__all__ = ["print_report", "register"]

_GRAPH = Path("graph")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (index, crawl, update, nightly):
        app.command()(command)


def print_report(report: RunReport, json: bool) -> None:
    """What a run did."""
    if json:
        print_json(report)
        return
    from modelkin.drawing import summary_lines

    print_lines(summary_lines(report))


def index(
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="A folder, a Hugging Face cache, hub, hub:URL, or an address."),
    ],
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
    jobs: JobsOption = None,
    json: JsonOption = False,
) -> None:
    """Read a source and place its models in trees.

    Only what is new or changed is read; models that are gone from the source are removed.
    """
    choice = choice_of(source, endpoint, author, search, filter, limit, sort, listing)
    _run("index", graph, choice, mode, budget, json, use_metadata, inferred, jobs)


def crawl(
    source: HubArgument = "hub",
    graph: GraphOption = _GRAPH,
    endpoint: EndpointOption = None,
    author: AuthorOption = None,
    search: SearchOption = None,
    filter: FilterOption = None,
    limit: LimitOption = None,
    sort: SortOption = SortChoice.created,
    listing: ListingOption = None,
    budget: BudgetOption = BUDGET,
    json: JsonOption = False,
) -> None:
    """Read a source into sketches only.

    `modelkin update` then places the models in trees.
    """
    choice = choice_of(source, endpoint, author, search, filter, limit, sort, listing)
    _run("crawl", graph, choice, None, budget, json)


def update(
    graph: GraphOption = _GRAPH,
    mode: ModeOption = ModeChoice.default,
    inferred: InferredOption = True,
    use_metadata: UpdateMetadataOption = None,
    jobs: JobsOption = None,
    json: JsonOption = False,
) -> None:
    """Place what was crawled in trees.

    Only trees that it touches are solved again.
    """
    _run("update", graph, None, mode, 0, json, use_metadata, inferred, jobs)


def nightly(
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
    jobs: JobsOption = None,
    json: JsonOption = False,
) -> None:
    """Crawl and update in one run.

    It is what `modelkin schedule` does every night.
    """
    choice = choice_of(source, endpoint, author, search, filter, limit, sort, listing)
    _run("nightly", graph, choice, mode, budget, json, use_metadata, inferred, jobs)


def _run(
    command: str,
    graph: Path,
    choice: SourceChoice | None,
    mode: ModeChoice | None,
    budget: int,
    json: bool,
    use_metadata: bool | None = None,
    inferred: bool = True,
    jobs: int | None = None,
) -> None:
    from modelkin.nightly import run
    from modelkin.progress import progress_for
    from modelkin.stopping import StoppableProgress, Stopping

    stopping = Stopping()
    source, complete = choice.open(stopping.sleep) if choice else (None, False)
    progress = StoppableProgress(progress_for(sys.stderr), stopping)
    try:
        with stopping.on_sigterm():
            report = run(
                graph,
                source,
                command=command,
                mode=mode.value if mode else None,
                infer=inferred,
                budget=budget,
                complete=complete,
                progress=progress,
                clock=lambda: datetime.now(UTC),
                use_metadata=use_metadata,
                processes=jobs or available_cpus(),
            )
    finally:
        progress.close()
    print_report(report, json)
