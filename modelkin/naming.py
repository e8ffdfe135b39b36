"""Which model a name means, and what to say when it means none or several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import duckdb

from modelkin.plain import plain
from store.errors import StopError

__all__ = [
    "AmbiguousModelError",
    "UnknownModelError",
    "create_label",
    "find_model",
    "several_sources",
    "shared_names",
]

_SHOWN = 8

# Where two sources hold a model of one name, the name alone says nothing: such models are called source/name.
_SHARED = "select name from live_models group by name having count(*) > 1"
_LABEL = (
    "create or replace temp macro label(n, s) as "
    "case when n in (select name from ambiguous) then s || '/' || n else n end"
)

_NAMED = (
    "select model_id as id, name, source from live_models union all "
    "select inferred_id, name, 'inferred' from inferred where valid_to_run is null"
)

# With a second condition the index on names is not used, and every name read.
_EXACT = "select model_id, removed_run from models where name = ?"
_INFERRED = "inferred/"

# The more of a name is given, the earlier it counts: exact, then with its source, then its last parts.
_MATCHES = (
    "name = $1",
    "source || '/' || name = $1",
    "ends_with(name, '/' || $1)",
)


class UnknownModelError(StopError):
    """No model of the graph has this name; `close` holds the names most like it, best first."""

    def __init__(self, name: str, close: Sequence[str]) -> None:
        self.name = name
        self.close = tuple(close)
        hint = (
            "did you mean " + ", ".join(map(plain, self.close)) + "?"
            if close
            else "`modelkin models` lists what the graph holds"
        )
        super().__init__(f"no model {plain(name)} in the graph; {hint}")


class AmbiguousModelError(StopError):
    """Several models have this name; `candidates` holds names that tell them apart."""

    def __init__(self, name: str, candidates: Sequence[str]) -> None:
        self.name = name
        self.candidates = tuple(candidates)
        shown = [plain(each) for each in self.candidates[:_SHOWN]]
        more = len(self.candidates) - len(shown)
        listed = "\n  ".join([*shown, *([f"... and {more} more"] if more > 0 else [])])
        super().__init__(f"{plain(name)} means {len(self.candidates)} models; name one of\n  {listed}")


def several_sources(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the graph has models of more than one source; of one source, names are unique."""
    return len(connection.execute("select distinct source from models limit 2").fetchall()) > 1


def shared_names(connection: duckdb.DuckDBPyConnection, names: Sequence[str]) -> set[str]:
    """Those of the names that several live models have."""
    if not names:
        return set()
    listed = ", ".join("?" * len(names))
    rows = connection.execute(
        f"select name, removed_run is null and kind = 'model' from models where name in ({listed})", list(names)
    ).fetchall()
    return {name for name, held in Counter(name for name, live in rows if live).items() if held > 1}


def create_label(connection: duckdb.DuckDBPyConnection) -> None:
    """Give the connection the macro label(name, source): how a model is called in answers."""
    shared = _SHARED if several_sources(connection) else "select ''::varchar as name where false"
    connection.execute(f"create or replace temp table ambiguous as {shared}")
    connection.execute(_LABEL)


def find_model(connection: duckdb.DuckDBPyConnection, name: str) -> int:
    """The id of the live model or inferred ancestor that `name` means: its name, `source/name`, or its last parts.

    Raises UnknownModelError and AmbiguousModelError.
    """
    # Nearly always it is a model's own name: no view, no union, nothing to sort.
    if not name.startswith(_INFERRED):
        exact = [found for found, removed in connection.execute(_EXACT, [name]).fetchall() if removed is None]
        if len(exact) == 1:
            return int(exact[0])
    for match in _MATCHES:
        rows = connection.execute(
            f"select id, name, source, if(name in ({_SHARED}), source || '/' || name, name) "
            f"from ({_NAMED}) where {match} order by 2, 3",
            [name],
        ).fetchall()
        if len(rows) == 1:
            return int(rows[0][0])
        if rows:
            raise AmbiguousModelError(name, [row[3] for row in rows])
    raise UnknownModelError(name, _close_names(connection, name))


def _close_names(connection: duckdb.DuckDBPyConnection, name: str) -> list[str]:
    """Names like `name`. DuckDB sifts, since difflib takes a minute for a million names."""
    from difflib import SequenceMatcher

    rows = connection.execute(
        "select distinct name from live_models order by greatest("
        "jaro_winkler_similarity(lower(name), lower($1)), "
        "jaro_winkler_similarity(lower(split_part(name, '/', -1)), lower(split_part($1, '/', -1)))"
        ") desc, name limit 200",
        [name],
    ).fetchall()

    def likeness(candidate: str) -> float:
        whole = SequenceMatcher(None, candidate.lower(), name.lower()).ratio()
        last = SequenceMatcher(None, candidate.lower().rpartition("/")[2], name.lower().rpartition("/")[2])
        return max(whole, last.ratio())

    scored = sorted(((-likeness(row[0]), row[0]) for row in rows), key=lambda pair: pair)
    return [candidate for score, candidate in scored[:5] if -score >= 0.6]
