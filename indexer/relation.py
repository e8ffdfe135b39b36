"""What was done to a parent to get its child, for edges of training: finetune, lora or partial."""

from __future__ import annotations

from indexer.adapter import adapter_evidence
from indexer.family import Family
from indexer.partial import frozen_evidence
from store.records import Evidence

__all__ = ["trained_relation"]


def trained_relation(family: Family, parent: int, child: int) -> tuple[str, list[Evidence]]:
    """(relation, what says so): "lora", else "partial" where some weights stayed as they were, else "finetune"."""
    adapter = adapter_evidence(family, parent, child)
    if adapter is not None:
        return "lora", [adapter]
    frozen = frozen_evidence(family, parent, child)
    return ("partial", [frozen]) if frozen is not None else ("finetune", [])
