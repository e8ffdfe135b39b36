"""Models that were merged from others: linear combinations, task arithmetic, SLERP, TIES and DARE.

A merge is computed, so a few relatives explain it up to rounding, which they never do for a trained child. Each model
is screened by one least-squares fit on its likely relatives over some coordinates; what passes is fitted again with
few parents, over all coordinates.

Linear dependence has no direction by itself: if m = (p + q) / 2 then p = 2m - q. A merge is taken to be the one that
lies between the others (a convex combination of them); merges are explained by models that are none where that can be.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from indexer.combination import Fit, explained, fit_linear, misses, solve, units
from indexer.family import Family

__all__ = ["Combination", "Relatives", "find_merges", "relatives_of"]

_NEAR: Final = 16
_ALONG: Final = 16
"""Candidates of a model: its nearest, and those in whose direction it lies as seen from the nearest and the centre."""
_SCREENED: Final = 1024
"""Coordinates of a screen."""
_HOPELESS: Final = 0.3
"""If relatives leave more of the distance to the nearest than this, by a fast fit, a better one is not tried."""
_MOST_PARENTS: Final = 16
_NEGLIGIBLE: Final = 0.005
"""A smaller coefficient is no parent."""
_SQUARE: Final = 0.05
"""Cosines that differ by less say nothing."""
_CONVEX: Final = 0.97
_TASK: Final = 0.9
_EITHER: Final = 0.5
"""Confidences: one of several lies between the others; a base and what was added to it, by how far out the sum lies;
the same where no other model says which is the base."""


@dataclass(frozen=True, slots=True)
class Combination:
    """How a row was computed from others."""

    parents: tuple[int, ...]
    """Rows, by coefficient, largest first."""
    coefficients: tuple[float, ...]
    method: str
    """linear, task_arithmetic, slerp, ties or dare."""
    confidence: float


@dataclass(frozen=True, slots=True)
class Relatives:
    """A row and the rows that it may have been computed from, nearest first, with errors' units (length M)."""

    row: int
    candidates: NDArray[np.int64]
    precision: int
    unit: NDArray[np.float64]


def find_merges(family: Family, squared: NDArray[np.float64]) -> dict[int, Combination]:
    """Row -> how it was merged, over one component; `squared` is n x n. No model is its own ancestor by merges."""
    if len(family) < 3:
        return {}
    centre = int(np.argmin(np.where(np.isfinite(squared), squared, np.inf).mean(axis=1)))
    relatives = {row: relatives_of(family, squared, row, centre) for row in range(len(family))}
    relatives = {row: found for row, found in relatives.items() if len(found.candidates) >= 2}
    flat = {row: near for row, near in relatives.items() if _screen(family, near)}
    found = _linear_merges(family, squared, flat)
    others = {row: near for row, near in relatives.items() if row not in flat}
    curved = {row: merge for row, near in others.items() if (merge := _curved(family, near, set(found))) is not None}
    merges = set(found) | set(curved)
    for row, near in others.items() if merges else ():
        # Of models that are no merges where that can be, else of merges.
        if row not in curved or merges & set(curved[row].parents):
            again = _curved(family, near, merges if row in curved else set())
            if again is not None:
                curved[row] = again
    for row, merge in sorted(curved.items()):
        if not any(row in _above(found, parent) for parent in merge.parents):
            found[row] = merge
    return dict(sorted(found.items()))


def _curved(family: Family, near: Relatives, barred: set[int]) -> Combination | None:
    from indexer.layered import layered_merge
    from indexer.masked import masked_merge

    kept = np.array([c for c in near.candidates if int(c) not in barred], np.int64)
    near = replace(near, candidates=kept)
    return (layered_merge(family, near) or masked_merge(family, near)) if len(kept) >= 2 else None


def _above(found: dict[int, Combination], row: int) -> set[int]:
    """The row and all that it was merged from, directly or not."""
    seen, ahead = {row}, [row]
    while ahead:
        at = ahead.pop()
        more = [p for p in found[at].parents if p not in seen] if at in found else []
        seen.update(more)
        ahead += more
    return seen


def relatives_of(family: Family, squared: NDArray[np.float64], row: int, centre: int) -> Relatives:
    """The candidates of a row: parents of a merge are near it, or it lies in their direction, as seen from its nearest
    or from the row `centre`."""
    apart = squared[row].copy()
    apart[row] = np.inf
    apart[(family.present != family.present[row]).any(axis=1)] = np.inf
    order = np.argsort(apart, kind="stable")
    order = order[np.isfinite(apart[order])]
    chosen = list(order[:_NEAR])
    if len(order) > _NEAR:
        for base in {int(order[0]), centre} - {row}:
            with np.errstate(invalid="ignore", divide="ignore"):
                cosine = (squared[row, base] + squared[base] - squared[row]) / np.sqrt(
                    squared[row, base] * squared[base]
                )
            cosine[[row, base]] = -np.inf
            cosine[~np.isfinite(cosine) | ~np.isfinite(apart)] = -np.inf
            chosen += [c for c in np.argsort(-cosine, kind="stable")[:_ALONG] if np.isfinite(cosine[c])]
    candidates = np.array(list(dict.fromkeys(int(c) for c in chosen)), np.int64)
    candidates = candidates[: max(2, family.samples.shape[1] // 8)]
    precision = int(family.precision[row])
    values = np.abs(family.samples[row])
    if precision == 0 and len(candidates):
        # In float32 the arithmetic's own rounding is that of its largest operand.
        values = np.maximum(values, np.abs(family.samples[candidates[0]]))
    return Relatives(row, candidates, precision, units(values, precision))


def _screen(family: Family, near: Relatives) -> bool:
    """Does one fit on all candidates leave rounding errors only?"""
    at = _moved(family, near, _SCREENED // 2)
    if at.size < 4 * len(near.candidates):
        return False
    rows = family.samples[np.ix_(near.candidates, at)]
    single = (family.samples[near.row, at] - rows[0]) / near.unit[at]
    columns = (rows[1:] - rows[0]) / near.unit[at]
    columns /= np.maximum(np.sqrt(np.einsum("ij,ij->i", columns, columns)), 1e-300)[:, None]
    # Not by BLAS: its threads cost more than so small a product, a thousand times over.
    gram, onto = np.einsum("ik,jk->ij", columns, columns), np.einsum("ik,k->i", columns, single)
    whole = float((single**2).sum())
    gram[np.diag_indices_from(gram)] += 1e-9
    left = whole - float(onto @ np.linalg.solve(gram, onto))
    if left > max(_HOPELESS**2 * whole, float(at.size)):
        return False
    # Where candidates depend on each other, which is where merges are, only the slow way is exact enough.
    found = np.linalg.lstsq(columns.T, single, rcond=1e-15)[0]
    return explained(single - found @ columns, single, near.precision)


def _moved(family: Family, near: Relatives, most: int) -> NDArray[np.int64]:
    """At most `most` coordinates, evenly spread, at which the row differs from its nearest."""
    moved = np.flatnonzero(family.samples[near.row] != family.samples[near.candidates[0]])
    return moved if moved.size <= most else moved[np.linspace(0, moved.size - 1, most).astype(np.int64)]


def _fit(
    family: Family, near: Relatives, parents: NDArray[np.int64] | tuple[int, ...], at: NDArray[np.int64] | None = None
) -> Fit:
    rows = np.asarray(parents, np.int64)
    values = family.samples[rows] if at is None else family.samples[np.ix_(rows, at)]
    target = family.samples[near.row] if at is None else family.samples[near.row, at]
    return fit_linear(target, values, tuple(int(p) for p in rows), near.unit if at is None else near.unit[at])


def _holds(family: Family, near: Relatives, fit: Fit, at: NDArray[np.int64] | None = None) -> bool:
    """Is the fit rounding, and is none of its parents enough alone?"""
    if len(fit.parents) < 2:
        return False
    target = family.samples[near.row] if at is None else family.samples[near.row, at]
    unit = near.unit if at is None else near.unit[at]
    singles = [(target - (family.samples[p] if at is None else family.samples[p, at])) / unit for p in fit.parents]
    return explained(fit.errors, min(singles, key=lambda e: float(misses(e, 1.0).mean())), near.precision)


def _linear_merges(
    family: Family, squared: NDArray[np.float64], dependent: dict[int, Relatives]
) -> dict[int, Combination]:
    """Which of the rows that the others explain are merges, and of what."""
    between = {row for row, near in dependent.items() if _convex(family, near, set()) is not None}
    found: dict[int, Combination] = {}
    found.update(_settle(family, {row: dependent[row] for row in sorted(between)}, between))
    taken = set(between)
    fits: dict[int, Fit | None] = {}
    while True:
        for row in sorted(dependent.keys() - taken):
            known = fits.get(row)
            if row not in fits or (known is not None and taken & set(known.parents)):
                fits[row] = _sparse(family, dependent[row], taken)
        circuits = {frozenset((row, *fit.parents)) for row, fit in fits.items() if fit is not None and row not in taken}
        told = (
            _corner(family, squared, dependent, circuit, taken)
            for circuit in sorted(circuits, key=lambda c: (len(c), sorted(c)))
        )
        chosen = next((each for each in told if each is not None), None)
        if chosen is None:
            break
        found[chosen[0]] = chosen[1]
        taken.add(chosen[0])
    for row, merge in list(found.items()):
        # What lies between a base and another merge of it was more likely made of the same parts.
        if taken & set(merge.parents):
            fit = _convex(family, dependent[row], taken) or _sparse(family, dependent[row], taken)
            if fit is not None and (min(fit.coefficients) > 0 or _base_of(fit) is not None):
                found[row] = _combination(fit, _TASK if min(fit.coefficients) < 0 else _CONVEX)
    return found


def _settle(family: Family, between: dict[int, Relatives], merges: set[int]) -> dict[int, Combination]:
    """Merges of models that are none first, then merges of those."""
    found: dict[int, Combination] = {}
    barred = set(merges)
    while True:
        settled = {}
        for row, near in between.items():
            fit = None if row in found else _convex(family, near, barred)
            if fit is not None:
                settled[row] = _combination(fit, _CONVEX)
        if not settled:
            return found
        found |= settled
        barred -= settled.keys()


def _combination(fit: Fit, confidence: float) -> Combination:
    order = sorted(range(len(fit.parents)), key=lambda i: (-fit.coefficients[i], fit.parents[i]))
    convex = min(fit.coefficients) >= 0
    return Combination(
        tuple(fit.parents[i] for i in order),
        tuple(fit.coefficients[i] for i in order),
        "linear" if convex else "task_arithmetic",
        confidence,
    )


def _convex(family: Family, near: Relatives, barred: set[int]) -> Fit | None:
    """The row as a weighted mean of few candidates, None when it is none."""
    from scipy.optimize import nnls

    rows = np.array([c for c in near.candidates if int(c) not in barred], np.int64)
    if len(rows) < 2:
        return None
    at = _moved(family, near, _SCREENED)
    columns = (family.samples[np.ix_(rows, at)] - family.samples[near.row, at]) / near.unit[at]
    size = np.maximum(np.sqrt((columns**2).sum(axis=1)), 1e-300)
    # sum of c_i (p_i - v) = 0 with c >= 0, and the c_i sum to 1: a row of its own, as heavy as the longest column.
    matrix = np.concatenate([columns / size.max(), np.ones((len(rows), 1))], axis=1).T
    goal = np.zeros(len(matrix))
    goal[-1] = 1.0
    try:
        weights, _ = nnls(matrix, goal, maxiter=20 * len(rows))
    except RuntimeError:
        return None
    support = rows[weights * size > 1e-4 * (weights * size).max()]
    fit = _prune(family, near, support)
    return fit if fit is not None and min(fit.coefficients) >= _NEGLIGIBLE else None


def _sparse(family: Family, near: Relatives, barred: set[int]) -> Fit | None:
    """The row as any combination of few candidates, found by adding the one that explains most of what is left."""
    rows = [int(c) for c in near.candidates if int(c) not in barred]
    at = _moved(family, near, _SCREENED)
    chosen = rows[:1]
    while rows and len(chosen) <= _MOST_PARENTS:
        fit = _fit(family, near, tuple(chosen), at)
        if _holds(family, near, fit, at):
            return _prune(family, near, np.array(chosen, np.int64))
        left = [c for c in rows if c not in chosen]
        if not left:
            return None
        columns = (family.samples[np.ix_(left, at)] - family.samples[chosen[0], at]) / near.unit[at]
        if len(chosen) > 1:
            basis = (family.samples[np.ix_(chosen[1:], at)] - family.samples[chosen[0], at]) / near.unit[at]
            columns = columns - np.stack([solve(basis, column) for column in columns]) @ basis
        size = np.maximum(np.sqrt((columns**2).sum(axis=1)), 1.0)
        chosen.append(left[int(np.argmax(np.abs(columns @ fit.errors) / size))])
    return None


def _prune(family: Family, near: Relatives, parents: NDArray[np.int64]) -> Fit | None:
    """Leave out parents while the rest explains the row; None when not even all of them do so at every coordinate."""
    if not 2 <= len(parents) <= 2 * _MOST_PARENTS:
        return None
    at = _moved(family, near, 4 * _SCREENED)
    fit = _fit(family, near, tuple(int(p) for p in parents), at)
    if not _holds(family, near, fit, at):
        return None
    shrinking = True
    while shrinking and len(fit.parents) > 2:
        shrinking = False
        for weakest in sorted(range(len(fit.parents)), key=lambda i: abs(fit.coefficients[i])):
            fewer = _fit(family, near, tuple(p for i, p in enumerate(fit.parents) if i != weakest), at)
            if _holds(family, near, fewer, at):
                fit, shrinking = fewer, True
                break
    whole = _fit(family, near, fit.parents)
    kept = min(abs(c) for c in whole.coefficients) >= _NEGLIGIBLE and len(whole.parents) <= _MOST_PARENTS
    return whole if kept and _holds(family, near, whole) else None


def _base_of(fit: Fit) -> int | None:
    """The one parent with a negative coefficient, from which the others were taken off; None when that is no story."""
    negative = [i for i, c in enumerate(fit.coefficients) if c < 0]
    added = [c for c in fit.coefficients if c > 0]
    return fit.parents[negative[0]] if len(negative) == 1 and len(added) >= 2 and max(added) <= 1.05 else None


def _corner(
    family: Family,
    squared: NDArray[np.float64],
    dependent: dict[int, Relatives],
    circuit: frozenset[int],
    taken: set[int],
) -> tuple[int, Combination] | None:
    """Which row of a dependent set is a base plus what was added to it.

    Models trained from the base move independently, so seen from it they lie at right angles; seen from the merge they
    lie apart. Where both fit, as in a rectangle, the merge is the corner farthest from all other models.
    """
    stories = []
    for row in sorted(circuit & dependent.keys()):
        fit = _fit(family, dependent[row], tuple(sorted(circuit - {row})))
        base = _base_of(fit)
        if base is not None and _holds(family, dependent[row], fit):
            stories.append((_narrowest(squared, base, circuit - {row, base}), row, fit))
    if not stories:
        return None
    square = max(cosine for cosine, _, _ in stories)
    stories = [story for story in stories if story[0] >= square - _SQUARE]
    outside = [r for r in range(len(squared)) if r not in circuit and r not in taken]
    far = {row: float(np.sqrt(squared[row, outside]).mean()) if outside else 0.0 for _, row, _ in stories}
    _, row, fit = max(stories, key=lambda story: (far[story[1]], -story[1]))
    others = [far[each] for _, each, _ in stories if each != row]
    clear = not others or (bool(outside) and far[row] > 1.02 * max(others))
    return row, replace(_combination(fit, _TASK if clear else _EITHER), method="task_arithmetic")


def _narrowest(squared: NDArray[np.float64], base: int, rows: frozenset[int]) -> float:
    """Least cosine between two of the rows as seen from the base, 0 where none is negative."""
    least = 0.0
    for a in rows:
        for b in rows:
            if a < b and squared[base, a] > 0 and squared[base, b] > 0:
                inner = (squared[base, a] + squared[base, b] - squared[a, b]) / 2
                least = min(least, float(inner / np.sqrt(squared[base, a] * squared[base, b])))
    return least
