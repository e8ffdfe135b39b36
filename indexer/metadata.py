"""Upload dates and declared bases as evidence, where they are allowed: each weighs as much as it is often right.

Everything here is measured in nats against knowing nothing, so a model without a date or a card costs nothing, and a
false claim against clear weights loses: in a family of a hundred a claim is worth 6.8, and the weights give 13 times
the log of the ratio of two costs (`indexer.ancestry`), 9 for a factor of two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from store.records import Evidence

__all__ = [
    "CLAIM_RIGHT",
    "Metadata",
    "claim_log_odds",
    "declared_rows",
    "metadata_prior",
    "order_log_odds",
    "upload_evidence",
]

UPLOADED_IN_ORDER: Final = 0.9973
"""Share of documented edges on the Hub whose parent was uploaded first (Horwitz et al., Model Atlas, 2025)."""
BATCH_DAYS: Final = 0.25
"""Dates that lie closer say less: people upload a family's repositories in one go, in any order."""
CLAIM_RIGHT: Final = 0.9
"""Share of declared bases that are the parent. Cards are rarely wrong about the family, but many name its root instead
of the model in between; the share itself is a choice, not a measurement."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the cards of the n models of a family declare, in the family's order. Dates are in `Family.created`."""

    sources: tuple[str, ...]
    bases: tuple[tuple[str, ...], ...]
    """Names of the base models that each card declares."""

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Metadata:
        """That of some of the models, in the given order."""
        return Metadata(tuple(self.sources[i] for i in rows), tuple(self.bases[i] for i in rows))


def declared_rows(names: Sequence[str], metadata: Metadata) -> tuple[tuple[int, ...], ...]:
    """n: the rows that each card means, in rising order; what is not among `names` is passed over, as is itself.

    Where two sources hold a name, the card means the one beside it. Only these n models are asked, so that a model
    which arrives elsewhere in the graph cannot change what a component's cards say.
    """
    asked = {base for bases in metadata.bases for base in bases}
    by_name: dict[str, list[int]] = {}
    for row, name in enumerate(names) if asked else ():
        if name in asked:
            by_name.setdefault(name, []).append(row)
    result: list[tuple[int, ...]] = [()] * len(metadata.bases)
    for row in [row for row, bases in enumerate(metadata.bases) if bases]:
        source, found = metadata.sources[row], set()
        for base in metadata.bases[row]:
            if candidates := by_name.get(base):
                found.add(min(candidates, key=lambda at: (metadata.sources[at] != source, metadata.sources[at])))
        result[row] = tuple(sorted(found - {row}))
    return tuple(result)


def order_log_odds(days: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-odds that dates give to u -> v against v -> u, where v came `days` after u; 0 where that is not known."""
    agree = 0.5 + (UPLOADED_IN_ORDER - 0.5) * -np.expm1(-np.abs(days) / BATCH_DAYS)
    return np.asarray(np.where(np.isfinite(days), np.sign(days) * np.log(agree / (1 - agree)), 0.0))


def claim_log_odds(n: int, bases: int) -> float:
    """Log-odds of each of the `bases` rows that a card declares against each of its other possible places.

    Those are the other parents among n models, and being the root. A card with several bases is right about one.
    """
    if not 0 < bases < n:
        return 0.0
    return max(0.0, float(np.log(CLAIM_RIGHT / (1 - CLAIM_RIGHT) * (n - bases) / bases)))


def metadata_prior(created: NDArray[np.float64], declared: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """(n + 1) x n: what metadata adds to the cost of u -> v, and in the last row to that of v as the root.

    `created` is n: seconds since 1970, NaN where unknown. `declared` is n: the rows that each card names. A negative
    log-likelihood against knowing nothing: unknown dates and models without a claim have 0.
    """
    n = len(created)
    prior = np.zeros((n + 1, n))
    # As log(1 + exp(-odds)): one factor for the order of the two dates, given that u -> v.
    np.logaddexp(0.0, -order_log_odds((created[None, :] - created[:, None]) / 86_400), out=prior[:-1])
    prior[:-1] -= np.log(2.0)
    for v, bases in enumerate(declared):
        prior[list(bases), v] -= claim_log_odds(n, len(bases))
    np.fill_diagonal(prior, 0.0)
    return prior


def upload_evidence(days: float, log_odds: float) -> Evidence:
    """For an edge whose child's weights were uploaded `days` after its parent's (before, where negative)."""
    apart = f"{abs(days):.1f} days" if abs(days) >= 1 else f"{24 * abs(days):.1f} hours"
    order = "before" if days > 0 else "after"
    return Evidence("upload_order", days, log_odds, f"the parent was uploaded {apart} {order} the child")
