"""Which model a name means, and what to say when it means none or several."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from modelkin.plain import plain
from store.errors import StopError

__all__ = ["AmbiguousModelError", "UnknownModelError", "create_label", "find_model"]

_SHOWN = 8

# Where two sources hold a model of one name, the name alone says nothing: such models are called source/name.
_LABEL = (
    "create or replace temp table ambiguous as select name from live_models group by name having count(*) > 1",
    "create or replace temp macro label(n, s) as "
    "case when n in (select name from ambiguous) then s || '/' || n else n end",
)

_NAMED = (
    "select model_id as id, name, source from live_models union all "
    "select inferred_id, name, 'inferred' from inferred where valid_to_run is null"
)

_EXACT = "select model_id from models where name = ? and removed_run is null"
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


def create_label(connection: duckdb.DuckDBPyConnection) -> None:
    """Give the connection the macro label(name, source): how a model is called in answers."""
    for statement in _LABEL:
        connection.execute(statement)


def find_model(connection: duckdb.DuckDBPyConnection, name: str) -> int:
    """The id of the live model or inferred ancestor that `name` means: its name, `source/name`, or its last parts.

    Raises UnknownModelError and AmbiguousModelError.
    """
    # Nearly always it is a model's own name: no view, no union, nothing to sort.
    exact = connection.execute(_EXACT, [name]).fetchall()
    if len(exact) == 1 and not name.startswith(_INFERRED):
        return int(exact[0][0])
    for match in _MATCHES:
        rows = connection.execute(
            f"select id, name, source, label(name, source) from ({_NAMED}) where {match} order by 2, 3",
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
