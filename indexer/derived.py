"""Models that were computed from another one rather than trained: casts, quantised and pruned copies.

They are leaves: what they came from lies at a distance that rounding or masking explains, so they are recognised
exactly, hung on it, and kept out of the search for parents.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from indexer.answered import Answered, lists_of
from indexer.family import Family
from indexer.lattice import Steps, find_steps, lattice_pairs
from indexer.memo import Memo
from indexer.quantized import rounded_at_zero, rounded_to
from indexer.sparse import Matrix, Sparse, reached

__all__ = ["LEAST_ZEROS", "derivation", "find_derived", "short_rows"]

_LATTICES: Final[tuple[tuple[str, Any], ...]] = (
    ("BF16", ml_dtypes.bfloat16),
    ("F16", np.float16),
    ("F8_E4M3", ml_dtypes.float8_e4m3fn),
    ("F8_E5M2", ml_dtypes.float8_e5m2),
)
LEAST_ZEROS: Final = 0.02
"""Share of weights that must have become zero for "pruned"."""
_TRIED: Final = 8
_ROUNDS: Final = 4
"""How often the search is done again with what the nearest were computed from."""
_CLOSE: Final = 1.02
"""Sources whose squared distances are within this factor explain a copy equally well."""

_SHORT: Final = ("I", "U", "F8")


def _fraction(hit: NDArray[np.bool_]) -> float:
    return float(hit.mean()) if hit.size else 0.0


def derivation(
    family: Family, a: int, b: int, steps: Sequence[Steps] | None = None, *, twice: bool = False
) -> str | None:
    """How row b was computed from row a: "cast", "quantized", "pruned", or None when it was not.

    cast: rounding a to a shorter float gives b. pruned: b is a with more zeros. quantized: b lies on lattices and
    within half a step of a, or what became zero says so. `steps` is `find_steps` of b, found here when not given.
    With `twice`, a quantised b may have been pruned besides.
    """
    if not (family.present[a] & family.present[b]).all():
        return None
    x, y = family.samples[a], family.samples[b]
    if np.array_equal(x, y):
        return None
    if float(family.zeros[b] - family.zeros[a]) >= LEAST_ZEROS:
        kept = y != 0
        # Rounding on the way out (a pruned copy saved in bfloat16) stays within 1/256 of a value.
        slack = 1 / 256 if family.precision[b] > family.precision[a] else 0.0
        if _fraction(np.abs(y[kept] - x[kept]) <= slack * np.abs(x[kept])) >= 0.999:
            return "pruned"
    if _is_cast(family, a, b):
        return "cast"
    steps = find_steps(family, b, lattice_pairs(family)) if steps is None else steps
    if rounded_to(family, a, b, steps, zeros=not twice):
        return "quantized"
    if twice or family.zeros[b] <= family.zeros[a]:
        return None
    tensor = np.repeat(np.arange(len(family.measured)), np.diff(family.starts))
    return "quantized" if rounded_at_zero(x, y, tensor) else None


def _is_cast(family: Family, a: int, b: int) -> bool:
    """Biases and norms included: where they were trained, equal weights are no cast. They may be kept as they were, as
    GGUF keeps them."""
    x, y = family.samples[a], family.samples[b]
    for _, dtype in _LATTICES:
        if np.array_equal(_cast(x[:32], dtype), y[:32]):
            both = [t.samples[[a, b]] for t in family.tensors if t.role == "vector" and t.present[[a, b]].all()]
            x, y = np.concatenate([family.samples[[a, b]], *both], axis=1)
            kept = (x == y) & (np.arange(x.size) >= family.samples.shape[1])
            if _fraction((_cast(x, dtype) == y) | kept) >= 0.999 > _fraction(_cast(y, dtype) == x):
                return True
    return False


def _cast(values: NDArray[np.float64], dtype: Any) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        return np.asarray(values.astype(dtype).astype(np.float64))


def find_derived(
    family: Family, squared: Matrix, correlation: Matrix, memo: Memo | None = None
) -> dict[int, tuple[int, str]]:
    """Row -> (row that it was computed from, relation), over one component; `squared` and `correlation` are n x n.

    Models stored as integers or float8 whose scales lie elsewhere have no distance to speak of, but a correlation: they
    hang on the float model that they correlate with most. Of the rest, only the nearest are tried, and what those were
    computed from: all copies of one source lie about as far from a coarse copy as the source does. A circle cannot
    arise: each relation loses information.
    """
    memo = memo or Memo()
    short = short_rows(family)
    hung: dict[int, tuple[int, str]] = {}
    for b in np.flatnonzero(short).tolist() if not short.all() else []:
        a = int(np.argmax(np.where(short, -np.inf, correlation[b])))
        how = memo.answer("hung", family.content_hashes[b], [family.content_hashes[a]], lambda: _hung(family, a, b))  # noqa: B023
        hung[b] = (a, how.decode())
    near = _nearest(family, squared, memo)
    asked = np.array([b for b in range(len(family)) if b not in hung], np.int64)
    copies: dict[int, _Copy] = {}
    none = _None(family, memo) if isinstance(squared, Sparse) else None
    found: dict[int, tuple[int, str]] = {}
    for count in range(_ROUNDS):
        before, found = found, dict(hung)
        rows = _with_sources(near, before)
        told = none.told(rows, count) if none is not None else np.zeros(len(rows), bool)
        left = asked[~told[asked]]
        memo.want(family.content_hashes[b] for b in left.tolist())

        def source_of(b: int, copy: _Copy) -> tuple[int, str] | None:
            return copy.source(rows[b][rows[b] >= 0].tolist(), count)  # noqa: B023

        new = [b for b in left.tolist() if b not in copies]
        memo.ahead(new, lambda some: [source_of(b, _Copy(family, b, memo)) for b in some])
        for b in left.tolist():
            source = source_of(b, copies.setdefault(b, _Copy(family, b, memo)))
            if source is not None and not _leads_to(found, source[0], b):
                found[b] = source
            told[b] = source is None
        if none is not None:
            none.keep(told)
        if found == before or not found:
            break
    return found


def _hung(family: Family, a: int, b: int) -> bytes:
    """How row b, which is stored as integers or float8, was computed from row a."""
    return (derivation(family, a, b) or "quantized").encode()


class _None:
    """Which models of a large component were computed from none of their candidates: nearly all, told at a time."""

    def __init__(self, family: Family, memo: Memo) -> None:
        self._answered = Answered(family, memo)
        self._last: tuple[str, NDArray[np.uint64]] = "", np.zeros((0, 2), np.uint64)

    def told(self, rows: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
        """n: of whom that is known, with these candidates (n x k), the same in each round of so many."""
        self._last = f"none {count}", self._answered.digests(*lists_of(rows))
        return self._answered.known(*self._last, np.dtype(bool))[1]

    def keep(self, told: NDArray[np.bool_]) -> None:
        """Note of whom it is."""
        self._answered.keep(*self._last, told, told)


def _with_sources(near: NDArray[np.int64], found: Mapping[int, tuple[int, str]]) -> NDArray[np.int64]:
    """n x 2k: each row's candidates and what those were computed from, each once, in rising order; -1 before them."""
    source = np.full(len(near) + 1, -1)
    for row, (of, _) in found.items():
        source[row] = of
    rows = np.sort(np.concatenate([near, source[near]], axis=1), axis=1)
    rows[:, 1:][rows[:, 1:] == rows[:, :-1]] = -1
    rows[rows == np.arange(len(near))[:, None]] = -1
    return np.sort(rows, axis=1)


def _nearest(family: Family, squared: Matrix, memo: Memo) -> NDArray[np.int64]:
    """n x k: of each, the eight nearest; for a model with many zeros also the eight nearest in what is no zero, fewest
    zeros first; -1 for nobody."""
    if isinstance(squared, Sparse):
        near = squared.nearest(_TRIED)
    else:
        near = np.argsort(squared + np.diag(np.full(len(squared), np.inf)), axis=1, kind="stable")[:, :_TRIED]
        here = np.arange(len(squared))[:, None]
        near = np.where((near != here) & np.isfinite(np.take_along_axis(squared, near, axis=1)), near, -1)
    more = np.full((len(family), _TRIED), -1)
    zeroed = np.flatnonzero(family.zeros - family.zeros.min() >= LEAST_ZEROS).tolist()
    memo.want(family.content_hashes[b] for b in zeroed)
    for b in zeroed:
        rows, _ = reached(squared, b)
        if family.zeros[b] - family.zeros[rows].min(initial=1.0) >= LEAST_ZEROS:
            keys = family.content_keys[rows].tobytes()
            places = memo.answer("kept", family.content_hashes[b], keys, lambda: _kept(family, b, rows))  # noqa: B023
            nearest = rows[np.frombuffer(places, np.int32)]
            more[b, : len(nearest)] = nearest
    return np.concatenate([near, more], axis=1) if zeroed else near


def _kept(family: Family, b: int, rows: NDArray[np.int64]) -> bytes:
    """Places among some rows, int32, of those nearest in what row b has no zero in, fewest zeros first."""
    family.samples.at_hand(rows)
    kept = np.flatnonzero(family.samples[b])
    y = family.samples[b, kept]
    apart = np.array([((family.samples[a, kept] - y) ** 2).sum() for a in rows])
    return np.lexsort((family.zeros[rows], apart))[:_TRIED].astype(np.int32).tobytes()


class _Copy:
    """A row that may be a copy, and what has been asked about it."""

    def __init__(self, family: Family, row: int, memo: Memo) -> None:
        self._family, self._row, self._memo = family, row, memo
        self._known: dict[tuple[int, bool], str | None] = {}
        self._asked: list[int] = []
        self._answer: tuple[int, str] | None = None
        self._none: set[bytes] = set()
        """Keys of the rows that it was not computed from."""

    @cached_property
    def _steps(self) -> Sequence[Steps]:
        found: list[Steps] = []

        def compute() -> bool:
            found.extend(find_steps(self._family, self._row, lattice_pairs(self._family)))
            return bool(found)

        # Most lie on no lattice, and that is what is remembered.
        if self._memo.is_so("lattice", self._family.content_hashes[self._row], (), compute):
            return found or find_steps(self._family, self._row, lattice_pairs(self._family))
        return ()

    def source(self, candidates: list[int], count: int) -> tuple[int, str] | None:
        """(the row among these others, in rising order, that it was computed from, relation), or None. `count` is that
        of the round: what is remembered is the last answer of each."""
        if candidates == self._asked:
            return self._answer
        content, keys = self._family.content_hashes[self._row], self._family.content_keys[candidates]
        # What follows asks for it, unless it is remembered itself: both are kept.
        self._memo.look("lattice", content, ())
        self._none |= self._memo.items("derived not", content).keys() & set(map(bytes, keys))
        answer = self._memo.answer(f"derived {count}", content, keys.tobytes(), lambda: self._found(candidates))
        if not answer:
            self._none |= set(map(bytes, keys))
        self._memo.keep_items("derived not", content, dict.fromkeys(self._none, b""))
        at, _, relation = answer.decode().partition(" ")
        self._asked, self._answer = candidates, (candidates[int(at)], relation) if relation else None
        return self._answer

    def _found(self, candidates: list[int]) -> bytes:
        """Place of the source among the candidates, and relation; nothing where there is none."""
        tested = self._memo.items("derived not", self._family.content_hashes[self._row])
        # Most were computed from nothing, and an arrival is one candidate more.
        new = [a for a in candidates if bytes(self._family.content_keys[a]) not in tested]
        if not any(self._derivation(a, twice) for twice in (False, True) for a in new):
            return b""
        for twice in (False, True) if self._steps else (False,):
            sources = {a: relation for a in candidates if (relation := self._derivation(a, twice))}
            if sources:
                casts = [a for a, relation in sources.items() if relation == "cast"]
                best = _best(self._family, self._row, casts or sources)
                return f"{candidates.index(best)} {sources[best]}".encode()
        return b""

    def _derivation(self, a: int, twice: bool) -> str | None:
        if twice and not self._steps:
            return None
        if (a, twice) not in self._known:
            relation = derivation(self._family, a, self._row, self._steps, twice=twice)
            # What is a cast of this very row is nothing that the row came from.
            self._known[a, twice] = None if relation and _is_cast(self._family, self._row, a) else relation
        return self._known[a, twice]


def _best(family: Family, b: int, sources: Iterable[int]) -> int:
    """The source that is closest in the values that b kept.

    Of those that are as close, the one with the fewest zeros: several levels of magnitude pruning from one source share
    all values that they keep, and those of the lower level nest in the higher; whoever prunes a pruned model further
    trains it in between. Of those, the one that rounding has not touched.
    """
    kept = family.samples[b] != 0
    apart = {a: float(((family.samples[a] - family.samples[b])[kept] ** 2).sum()) for a in sources}
    close = _CLOSE * min(apart.values())
    return min(sources, key=lambda a: (apart[a] > close, family.zeros[a], family.precision[a], apart[a], a))


def short_rows(family: Family) -> NDArray[np.bool_]:
    """n: is most of the model stored in eight bits or as integers?"""
    share = np.zeros(len(family))
    for tensor, elements in zip(family.measured, family.elements, strict=True):
        share += elements * np.isin(tensor.dtypes.astype(str), [d for d in set(tensor.dtypes) if d.startswith(_SHORT)])
    return np.asarray(share > 0.5 * family.elements.sum())


def _leads_to(found: dict[int, tuple[int, str]], row: int, target: int) -> bool:
    while row in found:
        row = found[row][0]
        if row == target:
            return True
    return False
