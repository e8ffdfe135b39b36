"""Models as variables, coordinates as observations: who is adjacent to whom once all others are accounted for.

A nearest neighbour need not be the parent: children of one parent that learn like things drift together, until they are
nearer to each other than to it. What a drift cannot do is make a sibling's *own* steps reappear. Regress v on all
models that lie nearer to the root: a parent's coefficient is 1, because v holds everything that its parent had
learned; a sibling's is what is left when the common drift is explained by the others, about 0.

All of it is a function of squared distances: inner products of differences from a root r are
<u - r, v - r> = (|u - r|^2 + |v - r|^2 - |u - v|^2) / 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.linalg.lapack import dtrtri

__all__ = ["Regression", "adjacency", "edge_log_odds", "either_way", "gram", "partial_correlations", "regress"]

STRANGE: Final = 0.25
"""Standard deviation of the coefficient of a model that is no parent."""
PARENTAL: Final = 0.3
"""Standard deviation about 1 of a parent's coefficient: steps of one run correlate, weight decay shrinks."""
SPREAD: Final = 1.5
"""Times the median deviation of a model's coefficients from {0, 1}: one that predicts all at odd slopes says less."""
OBSERVATIONS: Final = 3000.0
"""Independent coordinates that a sketch is worth: samples are tens of thousands, of tensors of very different scale."""
LEAST: Final = -8.0
"""Log-odds of a parent that lies clearly farther from the root than its child, and least log-odds of any other."""
SLANT: Final = 0.1
"""Cosine that a step may have with its parent's displacement from the root: weight decay and an optimiser's habits."""
_RIDGE: Final = 1e-9
_UNSEEN: Final = 1e6
"""Most that one model's steps may be lost in another's noise."""


@dataclass(frozen=True, slots=True)
class Regression:
    """Each model regressed on all that lie nearer to the root than itself."""

    coefficient: NDArray[np.float64]
    """n x n; entry [u, v] is u's in the regression of v. Those of one v sum to 1 with the root's."""
    earlier: NDArray[np.bool_]
    """n x n; does u lie nearer to the root than v?"""
    residual: NDArray[np.float64]
    """n; squared length of what the regression leaves of v."""


def gram(squared: NDArray[np.float64], root: int, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Inner products of the rows' differences from the root, from n x n squared distances."""
    return np.asarray(_gram(squared, root, rows))


@njit(cache=True, nogil=True)
def _gram(squared: NDArray[np.float64], root: int, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    away = squared[root][rows]
    result = np.empty((rows.size, rows.size))
    for i in range(rows.size):
        for j in range(rows.size):
            result[i, j] = (away[i] + away[j] - squared[rows[i], rows[j]]) / 2
    return result


def regress(squared: NDArray[np.float64], root: int) -> Regression:
    """n regressions by one Cholesky factorisation, O(n^3): models in order of their distance from the root."""
    n = len(squared)
    order = np.argsort(squared[root], kind="stable")
    order = order[order != root]
    inner = gram(squared, root, order)
    # Estimates from samples: a hair of ridge keeps twins from making the matrix indefinite.
    scale = float(np.trace(inner)) / max(len(order), 1)
    ridge = _RIDGE
    while True:
        try:
            factor = np.linalg.cholesky(inner + ridge * np.diag(np.diag(inner) + 1e-6 * scale))
            break
        except np.linalg.LinAlgError:
            ridge *= 100
    diagonal = np.diag(factor)
    # In Fortran's order, as LAPACK reads it, this is the transpose, of which the upper triangle counts.
    inverse = dtrtri((factor / diagonal).T, lower=False, unitdiag=True)[0].T if len(order) else factor
    coefficient = _slopes(np.ascontiguousarray(inverse), order, root)
    rank = np.empty(n, np.int64)
    rank[root], rank[order] = 0, np.arange(1, n)
    residual = np.zeros(n)
    residual[order] = diagonal**2
    return Regression(coefficient, rank[:, None] < rank[None, :], residual)


@njit(cache=True, nogil=True)
def _slopes(inverse: NDArray[np.float64], order: NDArray[np.int64], root: int) -> NDArray[np.float64]:
    """Coefficients, from the inverse of the factor (lower triangular, ones on its diagonal) of models in this order."""
    n = order.size + 1
    result = np.zeros((n, n))
    for j in range(n - 1):
        rest = 1.0
        for i in range(j):
            result[order[i], order[j]] = -inverse[j, i]
            rest += inverse[j, i]
        result[root, order[j]] = rest
    return result


def edge_log_odds(found: Regression, squared: NDArray[np.float64], root: int) -> NDArray[np.float64]:
    """n x n log-odds that u is v's parent against its being another relative, from u's coefficient: that of a parent
    lies about 1, that of others about 0. The root, which all others are measured from, has 0.

    Of two that differ by less than can be seen in v, the regression credits the first alone: the second is as good.
    """
    order = np.argsort(found.earlier.sum(axis=0), kind="stable")
    return np.asarray(_odds(found.coefficient, order, found.residual, squared, root))


@njit(cache=True, nogil=True, error_model="numpy")
def _odds(
    slope: NDArray[np.float64],
    order: NDArray[np.int64],
    residual: NDArray[np.float64],
    squared: NDArray[np.float64],
    root: int,
) -> NDArray[np.float64]:
    """`edge_log_odds` for models in `order` of their distance from the root."""
    n = order.size
    odds = np.full((n, n), LEAST)
    odds[root] = 0.0
    off, noise, ratio = np.empty(n), np.empty(n), np.empty(n)
    for i in range(1, n):
        u = order[i]
        judged = n - 1 - i
        for j in range(i + 1, n):
            b = slope[u, order[j]]
            off[j - i - 1] = min(abs(b), abs(b - 1))
        middle = 0.0
        if judged >= 3:
            upper = judged // 2
            some = np.partition(off[:judged], upper)
            lower = some[upper] if judged % 2 else some[:upper].max()
            middle = SPREAD * (lower + some[upper]) / 2
        unit = max(residual[u], 1e-300) * OBSERVATIONS
        twin = order[0]
        for j in range(1, i):
            if squared[u, order[j]] < squared[u, twin]:
                twin = order[j]
        for j in range(i + 1, n):
            v = order[j]
            unseen = residual[v] / unit
            # Not `min` alone, which a NaN would pass.
            noise[j] = unseen if unseen < _UNSEEN else (_UNSEEN if unseen > 0 else 0.0)
            ratio[j] = _ratio(slope[u, v], middle * middle + noise[j])
        for j in range(i + 1, n):
            v = order[j]
            odds[u, v] = (max(0.5 * np.log(ratio[j]), LEAST) + noise[j] * odds[twin, v]) / (1 + noise[j])
    return odds


def either_way(
    odds: NDArray[np.float64], found: Regression, squared: NDArray[np.float64], root: int
) -> NDArray[np.float64]:
    """`edge_log_odds` with those of parents that lie a hair farther from the root than the child.

    |v - r|^2 exceeds |u - r|^2 by |v - u|^2 if u is v's parent, give or take 2 SLANT |v - u| |u - r|. Where that is
    more, the order of the two says nothing, and u is regressed on v as well: of its slope b on u follows the other,
    b |u|^2 / (b^2 |u|^2 + |v|^2), lengths being those of what the models nearer to the root leave.
    """
    order = np.argsort(found.earlier.sum(axis=0), kind="stable")
    result = odds.copy()
    _turn(result, odds, found.coefficient, order, found.residual, squared, root)
    return result


@njit(cache=True, nogil=True, error_model="numpy")
def _turn(
    result: NDArray[np.float64],
    odds: NDArray[np.float64],
    slope: NDArray[np.float64],
    order: NDArray[np.int64],
    residual: NDArray[np.float64],
    squared: NDArray[np.float64],
    root: int,
) -> None:
    """Put what `either_way` says of those that lie farther into `result`."""
    n = order.size
    for i in range(1, n):
        u = order[i]
        for j in range(i + 1, n):
            v = order[j]
            own = slope[u, v] * residual[u]
            back = own / (slope[u, v] * own + residual[v])
            slack = 2 * SLANT * np.sqrt(squared[u, v] * squared[root, u])
            apart = (squared[root, v] - squared[root, u]) / slack
            unordered = 1 / (1 + apart**4) if apart < np.inf else 0.0
            # No better than the way that the order suggests.
            turned = min(0.5 * np.log(_ratio(back if np.isfinite(back) else 0.0, 0.0)), odds[u, v])
            result[v, u] = max(unordered * turned + (1 - unordered) * LEAST, LEAST)


@njit(cache=True, nogil=True, error_model="numpy")
def _ratio(slope: float, variance: float) -> float:
    """Square of the odds of a slope about 1 against one about 0, each by Student's t with 2 degrees of freedom, as
    training has outliers: (1 + x^2 / 2 s)^-3/2 s^-1/2, up to a constant."""
    near, far = PARENTAL**2 + variance, STRANGE**2 + variance
    ratio = (1 + slope**2 / (2 * far)) / (1 + (slope - 1) ** 2 / (2 * near))
    return ratio**3 * (far / near)


def partial_correlations(squared: NDArray[np.float64]) -> NDArray[np.float64]:
    """n x n partial correlations of the models given all others, 0 on the diagonal.

    In a tree of independent increments they vanish but between parent and child (the precision matrix is the tree's
    weighted Laplacian); a drift that siblings share spreads thinly over all pairs.
    """
    n = len(squared)
    centre = np.eye(n) - 1 / n
    values, vectors = np.linalg.eigh(-0.5 * centre @ squared @ centre)
    kept = values > 1e-10 * values[-1]
    precision = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T
    scale = np.sqrt(np.maximum(np.diag(precision), 1e-300))
    result = -precision / np.outer(scale, scale)
    np.fill_diagonal(result, 0.0)
    return np.asarray(result)


def adjacency(squared: NDArray[np.float64]) -> NDArray[np.float64]:
    """n x n evidence, 0 and up, that two models are adjacent: log(1 + z^2) of their partial correlation in units of
    the typical one."""
    found = partial_correlations(squared)
    others = found[~np.eye(len(found), dtype=bool)]
    typical = 1.4826 * float(np.median(np.abs(others - np.median(others)))) if len(found) > 3 else 1.0
    return np.asarray(np.log1p((np.maximum(found, 0.0) / max(typical, 0.01)) ** 2))
