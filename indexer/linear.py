"""A row as a linear combination of few of its relatives, none of which is enough alone."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from indexer.combination import Fit, explained, fit_linear, misses, solve
from indexer.family import Family
from indexer.relatives import Relatives, moved

__all__ = ["convex_fit", "fit_row", "holds", "sparse_fit"]

_LOOKED_AT: Final = 1024
"""Coordinates while parents are chosen; all of them at the end."""
_MOST_PARENTS: Final = 16
_NEGLIGIBLE: Final = 0.005
"""A smaller coefficient is no parent."""


def fit_row(
    family: Family, near: Relatives, parents: NDArray[np.int64] | tuple[int, ...], at: NDArray[np.int64] | None = None
) -> Fit:
    rows = np.asarray(parents, np.int64)
    values = family.samples[rows] if at is None else family.samples[np.ix_(rows, at)]
    target = family.samples[near.row] if at is None else family.samples[near.row, at]
    return fit_linear(target, values, tuple(int(p) for p in rows), near.unit if at is None else near.units_at(at))


def holds(family: Family, near: Relatives, fit: Fit, at: NDArray[np.int64] | None = None) -> bool:
    """Is the fit rounding, and is none of its parents enough alone?"""
    if len(fit.parents) < 2:
        return False
    target = family.samples[near.row] if at is None else family.samples[near.row, at]
    unit = near.unit if at is None else near.units_at(at)
    singles = [(target - (family.samples[p] if at is None else family.samples[p, at])) / unit for p in fit.parents]
    return explained(fit.errors, min(singles, key=lambda e: float(misses(e, 1.0).mean())), near.precision)


def convex_fit(family: Family, near: Relatives, barred: set[int]) -> Fit | None:
    """The row as a weighted mean of few candidates, None when it is none."""
    from scipy.optimize import nnls

    rows = np.array([c for c in near.candidates if int(c) not in barred], np.int64)
    if len(rows) < 2:
        return None
    at = moved(family, near, _LOOKED_AT)
    columns = (family.samples[np.ix_(rows, at)] - family.samples[near.row, at]) / near.units_at(at)
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


def sparse_fit(family: Family, near: Relatives, barred: set[int]) -> Fit | None:
    """The row as any combination of few candidates, found by adding the one that explains most of what is left."""
    rows = [int(c) for c in near.candidates if int(c) not in barred]
    at = moved(family, near, _LOOKED_AT)
    chosen = rows[:1]
    while rows and len(chosen) <= _MOST_PARENTS:
        fit = fit_row(family, near, tuple(chosen), at)
        if holds(family, near, fit, at):
            return _prune(family, near, np.array(chosen, np.int64))
        left = [c for c in rows if c not in chosen]
        if not left:
            return None
        columns = (family.samples[np.ix_(np.array(left), at)] - family.samples[chosen[0], at]) / near.units_at(at)
        if len(chosen) > 1:
            basis = family.samples[np.ix_(np.array(chosen[1:]), at)] - family.samples[chosen[0], at]
            basis /= near.units_at(at)
            columns = columns - solve(basis, columns) @ basis
        size = np.maximum(np.sqrt((columns**2).sum(axis=1)), 1.0)
        chosen.append(left[int(np.argmax(np.abs(columns @ fit.errors) / size))])
    return None


def _prune(family: Family, near: Relatives, parents: NDArray[np.int64]) -> Fit | None:
    """Leave out parents while the rest explains the row; None when not even all of them do so at every coordinate."""
    if not 2 <= len(parents) <= 2 * _MOST_PARENTS:
        return None
    at = moved(family, near, 4 * _LOOKED_AT)
    fit = fit_row(family, near, tuple(int(p) for p in parents), at)
    if not holds(family, near, fit, at):
        return None
    shrinking = True
    while shrinking and len(fit.parents) > 2:
        shrinking = False
        for weakest in sorted(range(len(fit.parents)), key=lambda i: abs(fit.coefficients[i])):
            fewer = fit_row(family, near, tuple(p for i, p in enumerate(fit.parents) if i != weakest), at)
            if holds(family, near, fewer, at):
                fit, shrinking = fewer, True
                break
    whole = fit_row(family, near, fit.parents)
    kept = min(abs(c) for c in whole.coefficients) >= _NEGLIGIBLE and len(whole.parents) <= _MOST_PARENTS
    return whole if kept and holds(family, near, whole) else None
