"""One update: solve the components that new, changed or removed models touch, and write what differs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from typing import Final, Literal

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from indexer.all_parts import all_parts
from indexer.batches import batched, by_row
from indexer.family import Family
from indexer.kept_answers import KeptAnswers, kept_answers
from indexer.memo import NOTHING, RECORD, SOLVER_VERSION, Fetched
from indexer.paper import solve_paper
from indexer.parts import Placed, how_many, known_models, touched_parts, vectors_path
from indexer.parts_again import forget_parts, parts_again
from indexer.reading import Reader, load_metadata
from indexer.solve import is_large
from indexer.trees import Solved, changed, model_trees, reasons
from indexer.workers import Task, Workers, seldom_collected, solve_all
from store.answers import Answers
from store.edges import stand, write_edges
from store.lineage import (
    close_inferred,
    replace_components,
    setting,
    write_inferred,
    write_merges,
)
from store.memory import record_touched
from store.pairs import PAIRS, replace_pairs
from store.places import gone_models, mark_stale, placed_models, stale_roots, stored_links, stored_paths
from store.progress import Progress
from store.writer import GraphWriter

__all__ = ["Mode", "UpdateReport", "update"]

Mode = Literal["default", "paper"]
_TEXT: Final = {True: "true", False: "false"}


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """Counts of one update; `seconds` is wall time."""

    components_touched: int
    edges_added: int
    edges_closed: int
    seconds: float
    shortlist_recall: float | None = None
    """Least over the large components that were solved, None where there was none."""


def update(
    writer: GraphWriter,
    *,
    mode: Mode,
    progress: Progress,
    use_metadata: bool | None = None,
    infer: bool = True,
    processes: int = 1,
) -> UpdateReport:
    """Bring edges and components up to date with the live models.

    `use_metadata` lets dates and declared bases weigh in; None keeps what the graph was last solved with (at first: yes
    if its last source was a Hub). `infer` lets trees hold ancestors that no model is (never in paper mode). A component
    is solved again when its members are not those that are stored, or when one of the three has changed. What is found
    for it depends on its members' sketches (and dates and cards: a model whose card has changed is another member)
    alone, so the graph equals a rebuild whatever the history. So many `processes` solve components side by side, and a
    large one together.
    """
    started = monotonic()
    c = writer.connection
    settled = setting(c, "use_metadata")
    allowed = use_metadata
    if allowed is None:
        allowed = settled == "true" if settled else _last_source(c).startswith("hub:")
    chosen = {
        "mode": mode, "use_metadata": _TEXT[allowed], "inferred": _TEXT[infer], "solver": str(SOLVER_VERSION)
    }  # fmt: skip
    everything = any(setting(c, key) != value for key, value in chosen.items())
    if everything and setting(c, "solving") != json.dumps(chosen):
        # Of a run that is killed halfway nothing may stay that was solved otherwise, however the next one is called.
        with writer.transaction():
            told = {**chosen, "mode": "", "solving": json.dumps(chosen)}
            c.executemany("insert or replace into settings values (?, ?)", [*told.items()])
            mark_stale(c)
    gone = gone_models(c)
    architectures = _touched(c, {architecture for *_, architecture in gone})

    touched = added = closed = 0
    recalls: list[float] = []
    progress.start("recovering Model Trees", len(architectures))
    with Workers(processes) as workers, kept_answers(c, writer.folder.path) as kept, seldom_collected():
        for architecture in architectures:
            left = {model: root for model, root, of in gone if of == architecture}
            # BLAS on a thread each gains nothing on small matrices, and loses most of its time to waiting.
            with threadpool_limits(1, "blas"):
                for counts in _update_architecture(
                    writer, architecture, chosen, left, everything, recalls, kept, workers, progress
                ):
                    touched, added, closed = (x + y for x, y in zip((touched, added, closed), counts, strict=True))
            progress.advance(1, architecture)
    with writer.transaction():
        ids = [model for model, *_ in gone]
        closed += write_edges(c, writer.run_id, [], ids)[1]
        write_merges(c, writer.run_id, [], ids)
        replace_pairs(c, PAIRS.empty_table(), ids)
        replace_components(c, [], ids)
        closed += close_inferred(c, writer.run_id)
        if gone:
            kept.forget(ids)
        c.execute("update settings set value = ? where key = 'mode'", [mode])
        c.execute("delete from settings where key = 'solving'")
    progress.finish()
    return UpdateReport(touched, added, closed, monotonic() - started, min(recalls, default=None))


def _last_source(connection: duckdb.DuckDBPyConnection) -> str:
    row = connection.execute("select arg_max(source, run_id) from runs").fetchone()
    return row[0] or "" if row else ""


def _touched(connection: duckdb.DuckDBPyConnection, left: set[str]) -> list[str]:
    """Architectures with a model that came, went or was corrected since the last update, or with a stale tree."""
    rows = connection.execute(
        """select distinct m.architecture from live_models m left join components c using (model_id)
           where c.model_id is null or c.stale"""
    ).fetchall()
    return sorted(left | {row[0] for row in rows})


def _update_architecture(
    writer: GraphWriter,
    architecture: str,
    chosen: dict[str, str],
    gone: dict[int, int],
    everything: bool,
    recalls: list[float],
    kept: KeptAnswers,
    workers: Workers,
    progress: Progress,
) -> Iterator[tuple[int, int, int]]:
    """Solve the touched components of an architecture; (touched, edges added, closed) of one batch after the other.

    Each is committed: a run that goes on after a kill finds them solved. Notes recalls of large components.
    """
    c = writer.connection
    ids, contents, roots = placed_models(c, architecture)
    if not len(ids):
        return
    known = known_models(ids, contents, roots)
    read = Reader(c, writer.folder.path, architecture, workers.count)
    path = vectors_path(writer.folder.path, architecture)
    placed = Placed(gone, stale_roots(c), lambda some: stored_links(c, some), lambda some: stored_paths(c, some))
    paper = chosen["mode"] == "paper"
    with threadpool_limits(workers.count, "blas"):
        parts = None if everything or paper else touched_parts(path, known, placed, read)
    at_once = how_many(known.ids.tolist() if parts is None else [i for part in parts for i in part], read)
    if parts is None:
        with threadpool_limits(workers.count, "blas"):
            say = partial(progress.advance, 0)
            parts = parts_again(path, known, lambda: all_parts(path, known, read, at_once, say))
        parts = parts if paper else changed(parts, known, placed)
    if paper:
        # Clustering is global in the paper, and normalisation spans a tree: nothing is local to a component.
        family = read(known.ids.tolist())
        trees = solve_paper(family, clusters=len(parts))
        batches: Iterable[Callable[[], list[Solved]]] = [
            lambda: [(family.model_ids[rows].tolist(), tree) for rows, tree in trees]
        ]
    else:
        new = set(known.ids[known.roots == 0].tolist())
        some = list(batched(parts, at_once, lambda part: not everything and by_row(part, new)))
        if len(some) > 1:
            # Whatever a batch leaves of a tree that fell apart is solved by the next run if this one ends early.
            with writer.transaction():
                mark_stale(c, [i for part in parts for i in part])
        solver = partial(_solve, c, architecture, chosen, everything, read, kept, workers, progress)
        batches = (partial(solver, batch) for batch in some)
    inferred: set[int] = set()
    for solve in batches:
        with writer.transaction():
            found = solve()
            recalls += [component.recall for _, component in found if component.recall is not None]
            added, closed = _write(writer, found, inferred)
            record_touched(c, writer.run_id, reasons(known, placed, found, everything))
        yield len(found), added, closed
    forget_parts(path)


def _write(writer: GraphWriter, found: Sequence[Solved], placed: set[int]) -> tuple[int, int]:
    """Put what was found of some components in place of what is stored of their members; edges (added, closed).

    `placed` are the inferred ancestors that were written before; those of these are added to them.
    """
    c = writer.connection
    members = [i for part, _ in found for i in part]
    inferred = [node for _, component in found for node in component.inferred]
    standing = {child for _, component in found for child in component.standing}
    # All components in one go: each of these reads what the whole graph holds now.
    write_inferred(c, writer.run_id, inferred)
    added, closed = write_edges(
        c,
        writer.run_id,
        [edge for _, component in found for edge in component.edges],
        [*(i for i in members if i not in standing), *(node.inferred_id for node in inferred)],
    )
    write_merges(c, writer.run_id, [merge for _, component in found for merge in component.merges], members)
    replace_pairs(c, pa.concat_tables([PAIRS.empty_table(), *(component.pairs for _, component in found)]), members)
    stages: dict[int, str] = {}
    for rows, component in found:
        stages |= zip(rows, component.stages, strict=False)
    trees = [tree for part, component in found for tree in model_trees(part, component)]
    replace_components(c, trees, [], stages, placed)
    placed |= {node.inferred_id for node in inferred}
    return added, closed


def _solve(
    c: duckdb.DuckDBPyConnection,
    architecture: str,
    chosen: Mapping[str, str],
    everything: bool,
    read: Reader,
    kept: KeptAnswers,
    workers: Workers,
    progress: Progress,
    parts: list[list[int]],
) -> list[Solved]:
    """(members by name, component) of each of these parts."""
    wanted = [model for part in parts for model in part]
    alone = len(parts) == 1 and is_large(len(wanted)) and not everything
    family = read.by_row(wanted) if alone else read(wanted)
    row_of = {model: row for row, model in enumerate(family.model_ids.tolist())}
    rows = [np.array(sorted(row_of[model] for model in part), np.int64) for part in parts]
    metadata = None
    if chosen["use_metadata"] == _TEXT[True]:
        metadata = load_metadata(c, architecture, read.models(wanted))
    by_row = family.samples.by_row
    before: Answers = Fetched(kept.recall) if by_row else kept.recall(family.content_hashes)
    infer = chosen["inferred"] == _TEXT[True]
    tasks = [
        Task(family, part, None if metadata is None else metadata.take(part), infer, stored, by_row)
        for part, stored in zip(rows, [before] if by_row else _parted(family, rows, before), strict=True)
    ]
    solved = solve_all(tasks, workers, progress)
    if not all(stand(c, component.standing) for component in solved if component.standing):
        # Whoever changed edges by hand finds them told anew.
        solved = solve_all([replace(task, written=False) for task in tasks], workers, progress)
    for part in rows:
        if is_large(len(part)):
            read.keep_prefixes(family.take(part))
    answers = {key: told for component in solved for key, told in component.memory.items()}
    if isinstance(before, Fetched):
        outdated = kept.records(family.content_hashes) - answers.keys()
        before = {key: before.held.get(key, NOTHING) for key in answers} | dict.fromkeys(outdated, NOTHING)
    else:
        # Of a large tree what was not asked holds as long as it did, if it was asked as it is today.
        large = {family.content_hashes[row] for part in rows if is_large(len(part)) and not everything for row in part}
        answers = {
            key: told for key, told in before.items() if key[0] in large and not key[1].startswith(RECORD)
        } | answers
    kept.remember(before, answers)
    return [
        (family.model_ids[part].tolist(), replace(each, memory={})) for part, each in zip(rows, solved, strict=True)
    ]


def _parted(family: Family, parts: Sequence[NDArray[np.int64]], answers: Answers) -> Iterator[Answers]:
    """What is remembered of each part's models."""
    place = {family.content_hashes[row]: at for at, part in enumerate(parts) for row in part}
    parted: list[dict[tuple[str, str], tuple[bytes, bytes]]] = [{} for _ in parts]
    for key, answer in answers.items():
        parted[place[key[0]]][key] = answer
    return iter(parted)
