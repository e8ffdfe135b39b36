"""What holds between the rows of a graph, as SQL: each query returns what breaks its rule, as (id, sentence)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Final

import duckdb

__all__ = ["RULES", "Rule", "broken", "circles", "names_of", "settled"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing to check; `check` groups rules for people.

    Between a crawl and its update `after_update` rules do not bind.
    """

    check: str
    broken: str
    after_update: bool = False


def _reference(table: str, column: str, target: str, key: str, where: str = "true") -> Rule:
    return Rule(
        "keys",
        f"select {column}, '{table}.{column} = ' || {column} || ', which {target} does not hold' from {table} "
        f"where {column} is not null and {where} and {column} not in (select {key} from {target})",
    )


RULES: Final = (
    _reference("claims", "model_id", "models", "model_id"),
    _reference("pairs", "model_a", "models", "model_id"),
    _reference("pairs", "model_b", "models", "model_id"),
    _reference("edges", "child_id", "nodes", "node_id"),
    _reference("edges", "parent_id", "nodes", "node_id"),
    _reference("edges", "runner_up_id", "models", "model_id"),
    _reference("merges", "child_id", "models", "model_id"),
    _reference("merges", "parent_id", "models", "model_id"),
    _reference("components", "model_id", "nodes", "node_id"),
    _reference("components", "root_id", "nodes", "node_id"),
    _reference("models", "added_run", "runs", "run_id"),
    _reference("models", "removed_run", "runs", "run_id"),
    _reference("edges", "valid_from_run", "runs", "run_id"),
    _reference("edges", "valid_to_run", "runs", "run_id"),
    _reference("merges", "valid_from_run", "runs", "run_id"),
    _reference("merges", "valid_to_run", "runs", "run_id"),
    _reference("inferred", "valid_from_run", "runs", "run_id"),
    _reference("inferred", "valid_to_run", "runs", "run_id"),
    _reference("skipped", "run_id", "runs", "run_id"),
    Rule(
        "keys",
        "select model_id, 'its architecture ' || architecture || ' has no tensors' from live_models "
        "where architecture not in (select architecture from architectures semi join tensors using (architecture))",
    ),
    Rule(
        "names",
        "select max(model_id), count(*) || ' live rows of ' || source || ' have its name' from live_models "
        "group by source, name having count(*) > 1",
    ),
    Rule(
        "edges",
        "select child_id, count(*) || ' current edges lead to it' from current_edges "
        "group by child_id having count(*) > 1",
    ),
    Rule("edges", "select child_id, 'is its own parent' from edges where child_id = parent_id"),
    Rule(
        "edges",
        "select child_id, 'its edge has confidence ' || confidence || ' and distance ' || distance from current_edges "
        "where not (confidence between 0 and 1 and distance >= 0 and isfinite(distance) "
        "and coalesce(runner_up_confidence, 0) between 0 and 1)",
    ),
    Rule(
        "edges",
        "select child_id, 'its edge held from run ' || valid_from_run || ' to run ' || valid_to_run from edges "
        "where valid_to_run <= valid_from_run",
    ),
    Rule(
        "edges",
        "select child_id, 'has a current edge and is neither live nor inferred now' from current_edges "
        "where child_id not in (from present)",
        after_update=True,
    ),
    Rule(
        "edges",
        "select child_id, 'its parent ' || parent_id || ' is neither live nor inferred now' from current_edges "
        "where parent_id not in (from present)",
        after_update=True,
    ),
    Rule(
        "pairs",
        "select model_a, 'is in pairs with ' || model_b || ', out of order or not both live' from pairs "
        "where model_a >= model_b or model_a not in (from present) or model_b not in (from present)",
        after_update=True,
    ),
    Rule(
        "pairs",
        "select model_a, 'is in a pair with ' || model_b || ' ' || count(*) || ' times' from pairs "
        "group by model_a, model_b having count(*) > 1",
    ),
    Rule(
        "merges",
        "select child_id, 'is a merge of ' || count(*) || ', ' || count(distinct parent_id) || ' of them different' "
        "from current_merges group by child_id having count(*) < 2 or count(*) > count(distinct parent_id)",
    ),
    Rule(
        "merges",
        "select g.child_id, 'the parent of its edge is not among those that it was merged from' "
        "from (select child_id, list(parent_id) as parents from current_merges group by child_id) g "
        "left join current_edges e using (child_id) where not coalesce(list_contains(g.parents, e.parent_id), false)",
    ),
    Rule(
        "merges",
        "select child_id, 'its edge is a merge, and no parents are told' from current_edges "
        "where relation = 'merge' and child_id not in (select child_id from current_merges)",
    ),
    # By induction over the depth this is the recursion over current edges, and a path that grows by one has no circle.
    Rule(
        "paths",
        "select c.model_id, 'its path is ' || c.path::varchar || ', its parent''s ' || p.path::varchar "
        "from components c join current_edges e on e.child_id = c.model_id "
        "join components p on p.model_id = e.parent_id where c.path <> list_append(p.path, c.model_id)",
    ),
    Rule(
        "paths",
        "select model_id, 'has no parent, and its path is ' || path::varchar from components "
        "where model_id not in (select child_id from current_edges) and path <> [model_id]",
        after_update=True,
    ),
    Rule(
        "components",
        "select model_id, 'root ' || root_id || ' and depth ' || depth || ' do not fit the path ' || path::varchar "
        "from components where len(path) = 0 or root_id <> path[1] or path[-1] <> model_id or depth <> len(path) - 1",
    ),
    Rule(
        "components",
        "select model_id, 'its tree is said to have ' || c.members || ' models and has ' || n.held from components c "
        "join (select root_id, count(*) filter (where model_id > 0) as held from components group by root_id) n "
        "using (root_id) where c.members <> n.held",
        after_update=True,
    ),
    Rule(
        "places",
        "select id, 'has no place in components' from present where id not in (select model_id from components)",
        True,
    ),
    Rule(
        "places",
        "select model_id, 'has a place in components and is neither live nor inferred now' from components "
        "where model_id not in (from present)",
        after_update=True,
    ),
    Rule(
        "inferred",
        "select inferred_id, 'is inferred with id ' || inferred_id || ', ' || count(*) || ' times' from inferred "
        "where valid_to_run is null group by inferred_id having count(*) > 1 or inferred_id >= 0",
    ),
    Rule(
        "inferred",
        "select i.inferred_id, 'is said to have ' || any_value(i.children) || ' children and has ' "
        "|| count(e.child_id) from inferred i left join current_edges e on e.parent_id = i.inferred_id "
        "where i.valid_to_run is null group by i.inferred_id "
        "having count(e.child_id) < 2 or count(e.child_id) <> any_value(i.children)",
        after_update=True,
    ),
)

_PRESENT: Final = """create or replace temp view present as
    select model_id as id from live_models
    union all
    select inferred_id from inferred where valid_to_run is null"""


def settled(connection: duckdb.DuckDBPyConnection) -> bool:
    """Was the last run that is done an update? After a crawl some models wait for their place."""
    row = connection.execute("select arg_max(command, run_id) from runs where status = 'done'").fetchone()
    return row is not None and row[0] != "crawl"


def names_of(connection: duckdb.DuckDBPyConnection, ids: list[int]) -> dict[int, str]:
    """Id -> name of the models and inferred ancestors that the graph knows."""
    return dict(connection.execute("select node_id, name from nodes where list_contains(?, node_id)", [ids]).fetchall())


def broken(connection: duckdb.DuckDBPyConnection, *, update_done: bool) -> dict[str, list[tuple[int, str]]]:
    """What breaks the rules, by check; checks that hold have an empty list."""
    connection.execute(_PRESENT)
    found: dict[str, list[tuple[int, str]]] = {rule.check: [] for rule in RULES}
    for rule in RULES:
        if update_done or not rule.after_update:
            found[rule.check] += connection.execute(f"from ({rule.broken}) order by 1").fetchall()
    found["circles"] = circles(connection)
    return found


def circles(connection: duckdb.DuckDBPyConnection) -> list[tuple[int, str]]:
    """Circles over current edges and merges: one entry for each that is found by going up, with its ids."""
    above: dict[int, list[int]] = defaultdict(list)
    below: dict[int, list[int]] = defaultdict(list)
    for child, parent in connection.execute(
        "select child_id, parent_id from current_edges union select child_id, parent_id from current_merges"
    ).fetchall():
        above[child].append(parent)
        below[parent].append(child)
    waiting = {child: len(parents) for child, parents in above.items()}
    ready = [node for node in below if node not in waiting]
    while ready:
        for child in below[ready.pop()]:
            waiting[child] -= 1
            if not waiting[child]:
                del waiting[child]
                ready.append(child)
    # What is left lies on a circle or below one: go up within it until a node comes again.
    found = []
    while waiting:
        walk: dict[int, None] = {}
        node = min(waiting)
        while node in waiting and node not in walk:
            walk[node] = None
            node = next((parent for parent in above[node] if parent in waiting), 0)
        order = list(walk)
        if node in walk:
            circle = order[order.index(node) :]
            found.append((min(circle), "is its own ancestor: " + " < ".join(map(str, [*circle, node]))))
        for each in order:
            del waiting[each]
    return found
