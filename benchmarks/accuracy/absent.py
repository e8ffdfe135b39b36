"""Parents that are not in the collection: which inferred ancestors stand for them, and what their children hang on.

An inferred ancestor stands for an absent parent when the models that hang on it and that parent's children are mostly
the same: at least half of all in either are in both. Only absent parents of two or more children can be found.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Set
from typing import Any

__all__ = ["absent_figures", "alike", "broods", "rightly_adopted"]


def alike(a: Set[str], b: Set[str]) -> bool:
    """Whether their Jaccard index is at least a half."""
    return 2 * len(a & b) >= len(a | b)


def broods(parent: Mapping[str, str], parents: Iterable[str], models: Collection[str]) -> dict[str, set[str]]:
    """Each of `parents` that has children among `models`, with them; `parent` gives that of each child."""
    wanted = set(parents)
    found: dict[str, set[str]] = defaultdict(set)
    for child, up in parent.items():
        if up in wanted and child in models:
            found[up].add(child)
    return dict(found)


def rightly_adopted(
    missing: Mapping[str, str], parent: Mapping[str, str], inferred: Collection[str], models: Collection[str]
) -> set[str]:
    """Models whose parent is absent and which hang, with their siblings, on an inferred ancestor.

    `missing` gives each orphan's absent parent, `parent` what was found, `inferred` names the ancestors among that.
    """
    groups = _groups(missing)
    return {
        child
        for adopted in broods(parent, inferred, models).values()
        for group in groups
        if alike(adopted, group)
        for child in adopted & group
    }


def absent_figures(
    missing: Mapping[str, str], parent: Mapping[str, str], inferred: Collection[str], models: Collection[str]
) -> dict[str, Any]:
    """Counts, and precision and recall of inferred ancestors; None where there is nothing to take a share of."""
    groups = _groups(missing)
    nodes = list(broods(parent, inferred, models).values())
    found = sum(any(alike(adopted, group) for adopted in nodes) for group in groups)
    right = sum(any(alike(adopted, group) for group in groups) for adopted in nodes)
    siblings = [child for group in groups for child in group]
    on_sibling = sum(missing.get(parent.get(child, "")) == missing[child] for child in siblings)
    return {
        "absent_parents": len(groups),
        "inferred": len(nodes),
        "inferred_precision": right / len(nodes) if nodes else None,
        "inferred_recall": found / len(groups) if groups else None,
        "orphans_with_siblings": len(siblings),
        "orphans_right": len(rightly_adopted(missing, parent, inferred, models)),
        "orphans_on_sibling": on_sibling,
    }


def _groups(missing: Mapping[str, str]) -> list[set[str]]:
    groups = broods(missing, set(missing.values()), missing.keys())
    return [group for group in groups.values() if len(group) > 1]
