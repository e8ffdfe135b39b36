"""Options that several commands have."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from modelkin.sources import DEFAULT_BUDGET, SourceChoice

__all__ = [
    "AsOfOption",
    "AuthorOption",
    "BudgetOption",
    "EndpointOption",
    "FilterOption",
    "GraphOption",
    "HubArgument",
    "InferredOption",
    "JobsOption",
    "JsonOption",
    "LimitOption",
    "ListingOption",
    "MetadataOption",
    "ModeChoice",
    "ModeOption",
    "SearchOption",
    "SortChoice",
    "SortOption",
    "UpdateMetadataOption",
    "available_cpus",
    "choice_of",
]


class ModeChoice(StrEnum):
    """How trees are found."""

    default = "default"
    paper = "paper"


class SortChoice(StrEnum):
    """What comes first."""

    created = "created"
    downloads = "downloads"


GraphOption = Annotated[
    Path, typer.Option("--graph", envvar="MODELKIN_GRAPH", metavar="DIR", help="Folder of the Model Graph.")
]
AsOfOption = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        metavar="RUN|DATE",
        help="The graph as it was after a run (see `modelkin runs`), or at a date (ISO 8601, UTC).",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]
JobsOption = Annotated[
    int | None,
    typer.Option(
        "--jobs", "-j", min=1, metavar="N", help="Recover trees in N processes.", show_default="as many as CPUs"
    ),
]
HubArgument = Annotated[
    str,
    typer.Argument(metavar="SOURCE", help="hub, hub:URL, an address, a folder, or a Hugging Face cache."),
]
EndpointOption = Annotated[
    str | None, typer.Option("--endpoint", metavar="URL", help="Address of the Hub; else HF_ENDPOINT.")
]
AuthorOption = Annotated[str | None, typer.Option("--author", help="Only models of this user or organisation.")]
SearchOption = Annotated[str | None, typer.Option("--search", help="Only models whose name holds this.")]
FilterOption = Annotated[
    list[str] | None, typer.Option("--filter", help="Only models with this tag; several: with all of them.")
]
LimitOption = Annotated[
    int | None,
    typer.Option("--limit", min=1, help="Read this many models of a Hub at most; the next run goes on with others."),
]
SortOption = Annotated[
    SortChoice, typer.Option("--sort", help="Which models of a Hub to list and read first: new ones, or popular ones.")
]
ListingOption = Annotated[
    str | None,
    typer.Option("--listing", metavar="URL", help="Hub to ask for lists, where the one to read is a mirror without."),
]
BudgetOption = Annotated[
    int,
    typer.Option("--budget", min=0, metavar="BYTES", help="Read this much of a model on a Hub; 0 for all."),
]
ModeOption = Annotated[ModeChoice, typer.Option("--mode", help="paper: the published equations, to compare.")]
InferredOption = Annotated[
    bool, typer.Option("--inferred/--no-inferred", help="Infer ancestors that no model of the graph is.")
]
MetadataOption = Annotated[
    bool | None,
    typer.Option(
        "--use-metadata/--weights-only",
        help="Do upload dates and declared bases weigh in? The last run decides for the whole graph.",
        show_default="yes for a Hub, no for a folder or a cache",
    ),
]
UpdateMetadataOption = Annotated[
    bool | None,
    typer.Option(
        "--use-metadata/--weights-only",
        help="Do upload dates and declared bases weigh in? It holds for the whole graph.",
        show_default="as in the last run",
    ),
]

BUDGET = DEFAULT_BUDGET


def available_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choice_of(
    source: str,
    endpoint: str | None,
    author: str | None,
    search: str | None,
    filter: list[str] | None,
    limit: int | None,
    sort: SortChoice = SortChoice.created,
    listing: str | None = None,
) -> SourceChoice:
    """The options of a source as one value, checked."""
    order: Literal["createdAt", "downloads"] = "downloads" if sort is SortChoice.downloads else "createdAt"
    return SourceChoice(source, endpoint, author, search, tuple(filter or ()), limit, order, listing).settled()
