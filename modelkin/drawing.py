"""Trees, explanations and summaries as lines of text. Pure functions: no terminal, no colour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from modelkin.plain import plain
from modelkin.tables import cell, counted, human_bytes, text_table

if TYPE_CHECKING:
    from modelkin.nightly import RunReport
    from modelkin.rows import Explanation, Measured
    from modelkin.tree import Tree, TreeNode
    from store.check import Check

__all__ = ["SHOWN_CHILDREN", "check_lines", "explanation_lines", "summary_lines", "tree_lines"]

SHOWN_CHILDREN = 20
_BOX = ("├── ", "└── ", "│   ", "    ", "○ ")
_ASCII = ("|-- ", "`-- ", "|   ", "    ", "o ")


def tree_lines(tree: Tree, limit: int = SHOWN_CHILDREN, *, ascii_only: bool = False) -> Iterator[str]:
    """The tree, a model a line with the edge to its parent; at most `limit` children of each (0 = all).

    The model that was asked for is marked, and shown even where its branch would be left out. Inferred ancestors are
    drawn hollow.
    """
    tee, corner, bar, blank, hollow = _ASCII if ascii_only else _BOX
    asked = _position(tree)
    yield _node_line(tree.nodes[0], asked == 0, hollow, len(tree))
    waiting = _branches(tree, 0, "", limit, asked)
    while waiting:
        prefix, at, last, hidden = waiting.pop()
        stem = prefix + (corner if last else tee)
        if at is None:
            yield f"{stem}... and {hidden:,} more"
            continue
        yield stem + _node_line(tree.nodes[at], asked == at, hollow)
        waiting += _branches(tree, at, prefix + (blank if last else bar), limit, asked)


_Branch = tuple[str, int | None, bool, int]
"""What is left to draw: prefix, position in the tree (None for a count), whether it is the last one, the count."""


def _branches(tree: Tree, at: int, prefix: str, limit: int, asked: int | None) -> list[_Branch]:
    """The children to draw, last one first."""
    children = tree.children(at)
    shown = children if limit <= 0 else children[:limit]
    hidden = len(children) - len(shown)
    if hidden and asked is not None:
        towards = [child for child in children[limit:] if child <= asked <= child + tree.nodes[child].descendants]
        if towards:
            shown = [*shown[:-1], *towards]
    branches: list[_Branch] = [(prefix, child, not hidden and child == shown[-1], 0) for child in shown]
    if hidden:
        branches.append((prefix, None, True, hidden))
    return branches[::-1]


def _position(tree: Tree) -> int | None:
    if tree.asked is None:
        return None
    return next(at for at, node in enumerate(tree.nodes) if node.model == tree.asked)


def _node_line(node: TreeNode, asked: bool, hollow: str, members: int = 0) -> str:
    if node.depth == 0:
        said = counted(members, "model") if members > 1 else "no relatives"
    elif node.relation is None:
        said = "edge not measured"
    else:
        others = f" with {', '.join(node.merged_with)}" if node.merged_with else ""
        said = f"{node.relation}{others}, distance {cell(node.distance, 4)}, confidence {cell(node.confidence, 3)}"
    if node.inferred:
        said = f"inferred, {said}"
    return f"{hollow if node.inferred else ''}{plain(node.model)}  ({plain(said)})" + ("  <-" if asked else "")


def explanation_lines(explanation: Explanation) -> Iterator[str]:
    """Why a model hangs where it does."""
    e = explanation
    yield plain(e.model) + (" (inferred: no model of the graph)" if e.inferred else "")
    if e.parent is None:
        yield (
            f"  root of a tree of {counted(e.members, 'model')}"
            if e.members > 1
            else "  no relative is close enough: a root without children"
        )
    else:
        inferred = ", inferred" if e.parent_inferred else ""
        yield f"  child of {plain(e.parent)} ({plain(e.relation or 'unknown')}{inferred}), since run {e.since_run}"
        if e.merge_parents:
            shares = ", ".join(f"{plain(each.parent)} {cell(each.coefficient, 3)}" for each in e.merge_parents)
            yield f"  merged from {shares}"
        yield f"  distance {cell(e.distance, 4)}, confidence {cell(e.confidence, 3)}"
        yield f"  in the tree of {plain(e.root)}: {counted(e.members, 'model')}, this one at depth {e.depth}"
    if e.stage:
        yield f"  made by {plain(e.stage)} training"
    if e.evidence:
        rows = [
            (f"    {plain(each.cue)}", cell(each.value, 4), f"{each.log_odds:+.2f}", plain(each.says))
            for each in e.evidence
        ]
        yield "  evidence (log-odds above 0 speak for this edge; 0 informs without a vote)"
        yield from text_table(("    cue", "value", "log-odds", "says"), rows)
    if e.runner_up is not None:
        yield f"  runner-up: {plain(e.runner_up)}, confidence {cell(e.runner_up_confidence, 3)}"
    elif e.parent is not None:
        yield "  no runner-up: no other candidate"
    pairs = [("parent", e.measured), ("runner-up", e.runner_up_measured)]
    measured = [(f"    {name}", *_measured_cells(pair)) for name, pair in pairs if pair is not None]
    if measured:
        yield "  measured"
        yield from text_table(("    with", "distance", "correlation", "shared", "equal", "rank"), measured)
    for claim in e.claims:
        yield f"  {plain(claim.stated_in)} says: base {plain(claim.claimed_parent)}; weights say: {claim.verdict}"


def _measured_cells(pair: Measured) -> tuple[str, ...]:
    values = (pair.distance, pair.correlation, pair.shared, pair.equal, pair.rank)
    return tuple(cell(value, 4) for value in values)


def summary_lines(report: RunReport) -> Iterator[str]:
    """What a run did and what the graph holds now."""
    r = report
    if r.source is not None:
        yield (
            f"models   {r.models_seen:,} seen: {r.models_new:,} new, {r.models_changed:,} changed, "
            f"{r.models_removed:,} removed, {r.models_skipped:,} skipped"
        )
        if r.skipped_reasons:
            reasons = ", ".join(f"{plain(reason)} {count:,}" for reason, count in r.skipped_reasons.items())
            yield f"skipped  {reasons}  (`modelkin skipped` says more)"
        share = f" ({100 * r.bytes_read / r.bytes_total:.0f} %)" if r.bytes_total else ""
        requests = f" in {counted(r.requests, 'request')}" if r.requests else ""
        yield f"read     {human_bytes(r.bytes_read)} of {human_bytes(r.bytes_total)}{share}{requests}"
    yield (
        f"trees    {counted(r.components_touched, 'tree')} solved again: "
        f"{counted(r.edges_added, 'edge')} added, {r.edges_closed:,} closed"
    )
    alone = f", {counted(r.alone, 'model')} without relatives" if r.alone else ""
    if r.inferred:
        alone += f", {counted(r.inferred, 'inferred ancestor')}"
    yield (f"holds    {counted(r.models, 'model')}, {counted(r.trees, 'tree')}, {counted(r.edges, 'edge')}{alone}")
    yield f"took     {r.seconds:.1f} s (crawl {r.crawl_seconds:.1f} s, update {r.update_seconds:.1f} s)"
    yield f"graph    {plain(r.graph)}, generation {r.generation}"


def check_lines(checks: Sequence[Check]) -> Iterator[str]:
    """One line a check; below those that are not well, what exactly."""
    width = max(len(each.check) for each in checks)
    for each in checks:
        yield f"{each.state:6}  {each.check:{width}}  {plain(each.says)}"
        for offender in each.offenders:
            yield f"          {plain(offender)}"
        if each.count > len(each.offenders) > 0:
            yield f"          ... and {each.count - len(each.offenders):,} more"
