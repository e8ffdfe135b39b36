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
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

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
    away = squared[root, rows]
    return np.asarray((away[:, None] + away[None, :] - squared[np.ix_(rows, rows)]) / 2)


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
    slopes = -solve_triangular(factor / diagonal, np.eye(len(order)), lower=True, unit_diagonal=True)
    np.fill_diagonal(slopes, 0.0)
    coefficient = np.zeros((n, n))
    coefficient[np.ix_(order, order)] = slopes.T
    coefficient[root, order] = 1 - slopes.sum(axis=1)
    rank = np.empty(n, np.int64)
    rank[root], rank[order] = 0, np.arange(1, n)
    residual = np.zeros(n)
    residual[order] = diagonal**2
    return Regression(coefficient, rank[:, None] < rank[None, :], residual)


def edge_log_odds(found: Regression, squared: NDArray[np.float64], root: int) -> NDArray[np.float64]:
    """n x n log-odds that u is v's parent against its being another relative, from u's coefficient: that of a parent
    lies about 1, that of others about 0. The root, which all others are measured from, has 0.

    Of two that differ by less than can be seen in v, the regression credits the first alone: the second is as good.
    """
    slope = found.coefficient
    n = len(slope)
    off = np.sort(np.where(found.earlier, np.minimum(np.abs(slope), np.abs(slope - 1)), np.inf), axis=1)
    judged = found.earlier.sum(axis=1)
    # The median of a row without its infinities; np.nanmedian goes row by row, in Python.
    rows = np.arange(n)
    middle = (off[rows, np.maximum(judged - 1, 0) // 2] + off[rows, np.minimum(judged // 2, n - 1)]) / 2
    spread = np.where(judged >= 3, SPREAD * middle, 0.0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        noise = found.residual[None, :] / (np.maximum(found.residual[:, None], 1e-300) * OBSERVATIONS)
    noise = np.minimum(np.nan_to_num(noise, posinf=1e6), 1e6)
    blur = spread[:, None] ** 2 + noise
    odds = _parental(slope, blur)
    odds = np.where(found.earlier, np.maximum(odds, LEAST), LEAST)
    odds[root] = 0.0
    order = np.argsort(found.earlier.sum(axis=0), kind="stable")
    for at, u in enumerate(order[1:], 1):
        twin = order[:at][np.argmin(squared[u, order[:at]])]
        unseen = noise[u]
        odds[u] = np.where(found.earlier[u], (odds[u] + unseen * odds[twin]) / (1 + unseen), LEAST)
    return np.asarray(odds)


def either_way(
    odds: NDArray[np.float64], found: Regression, squared: NDArray[np.float64], root: int
) -> NDArray[np.float64]:
    """`edge_log_odds` with those of parents that lie a hair farther from the root than the child.

    |v - r|^2 exceeds |u - r|^2 by |v - u|^2 if u is v's parent, give or take 2 SLANT |v - u| |u - r|. Where that is
    more, the order of the two says nothing, and u is regressed on v as well: of its slope b on u follows the other,
    b |u|^2 / (b^2 |u|^2 + |v|^2), lengths being those of what the models nearer to the root leave.
    """
    reach = squared[root]
    own = found.residual[:, None]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        explained = found.coefficient**2 * own
        back = np.nan_to_num(found.coefficient * own / (explained + found.residual[None, :]))
        slack = 2 * SLANT * np.sqrt(squared * reach[:, None])
        unordered = np.nan_to_num(1 / (1 + ((reach[None, :] - reach[:, None]) / slack) ** 4))
    # No better than the way that the order suggests.
    turned = np.minimum(_parental(back, np.zeros_like(back)), odds)
    turned = np.maximum(unordered * turned + (1 - unordered) * LEAST, LEAST)
    earlier = found.earlier.copy()
    earlier[root] = False
    result = odds.copy()
    result.T[earlier] = turned[earlier]
    return result


def _parental(slope: NDArray[np.float64], variance: NDArray[np.float64]) -> NDArray[np.float64]:
    return _tailed(slope - 1, PARENTAL**2 + variance) - _tailed(slope, STRANGE**2 + variance)


def _tailed(x: NDArray[np.float64], variance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-density of Student's t with 2 degrees of freedom, up to a constant: training has outliers."""
    return np.asarray(-1.5 * np.log1p(x**2 / (2 * variance)) - 0.5 * np.log(variance))


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
