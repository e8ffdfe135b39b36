"""Each figure of scripts/accuracy beside its definition, on examples small enough to count by hand."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.accuracy.score import Found, adjusted_rand, brier, calibration, calibration_error, judged, score
from benchmarks.accuracy.truth import Truth, TruthRow, make_truth

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=25)
PAIRS = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40)


def _truth(*edges: tuple[str, str], models: str = "abcdef") -> Truth:
    return make_truth([TruthRow(child, parent) for child, parent in edges], models)


TREE = _truth(("b", "a"), ("c", "a"), ("d", "b"), ("e", "missing:m"))
"""a -> b, c; b -> d; e is an orphan, f a stranger."""
CLUSTERS = dict(TREE.cluster)


def test_a_perfect_answer() -> None:
    figures = score(TREE, Found({"b": "a", "c": "a", "d": "b"}, CLUSTERS, {"b": 1.0, "c": 1.0, "d": 1.0}))
    ones = ("directed_accuracy", "undirected_accuracy", "direction_accuracy", "precision", "recall", "ari")
    assert [figures[key] for key in ones] == [1.0] * 6
    assert (figures["ece"], figures["brier"], figures["unplaced"], figures["orphans_unplaced"]) == (0.0, 0.0, 0.0, 1.0)
    assert (figures["models"], figures["truth_edges"], figures["orphans"]) == (6, 3, 1)


def test_turned_wrong_and_missing_edges_are_told_apart() -> None:
    # b is right, d's edge is there the wrong way round, c has no parent, and the orphan e was given one.
    found = Found({"b": "a", "a": "f", "e": "a"}, CLUSTERS)
    figures = score(_truth(("b", "a"), ("c", "a"), ("f", "a"), ("e", "missing:m")), found)
    assert figures["truth_edges"] == 3
    assert figures["directed_accuracy"] == pytest.approx(1 / 3)
    assert figures["undirected_accuracy"] == pytest.approx(2 / 3)
    assert figures["direction_accuracy"] == pytest.approx(1 / 2)
    assert figures["precision"] == pytest.approx(1 / 3)
    assert figures["unplaced"] == pytest.approx(2 / 3)
    assert figures["orphans_unplaced"] == 0.0
    assert figures["ece"] is figures["brier"] is None


def test_an_orphan_is_right_on_an_inferred_ancestor_with_its_siblings() -> None:
    edges = [("b", "a"), ("d", "missing:m"), ("e", "missing:m"), ("f", "missing:m"), ("c", "missing:n")]
    truth = _truth(*edges)
    parent = {"b": "a", "d": "h", "e": "h", "f": "d", "h": "a", "c": "a"}
    found = Found(parent, truth.cluster, dict.fromkeys(parent, 0.5), inferred=frozenset("h"))
    figures = score(truth, found)
    assert (figures["absent_parents"], figures["orphans"], figures["orphans_with_siblings"]) == (1, 4, 3)
    assert (figures["inferred"], figures["inferred_precision"], figures["inferred_recall"]) == (1, 1.0, 1.0)
    assert (figures["orphans_right"], figures["orphans_on_sibling"]) == (2, 1)
    assert figures["edges"] == 5
    assert figures["precision"] == pytest.approx(3 / 5)
    assert sorted(judged(truth, found)) == [(0.5, False), (0.5, False), (0.5, True), (0.5, True), (0.5, True)]


def test_an_inferred_ancestor_that_displaces_a_parent_is_wrong() -> None:
    truth = _truth(("b", "a"), ("c", "a"), ("d", "a"))
    figures = score(truth, Found({"b": "h", "c": "h", "d": "h", "h": "a"}, truth.cluster, inferred=frozenset("h")))
    assert (figures["directed_accuracy"], figures["precision"]) == (0.0, 0.0)
    assert (figures["inferred"], figures["inferred_precision"], figures["inferred_recall"]) == (1, 0.0, None)


def test_any_parent_of_a_merge_is_right() -> None:
    truth = _truth(("c", "a"), ("c", "b"), models="abc")
    assert truth.clusters == 1
    for parent in "ab":
        figures = score(truth, Found({"c": parent}, truth.cluster))
        assert (figures["truth_edges"], figures["directed_accuracy"]) == (1, 1.0)
        assert figures["merge_parents_recall"] is None
    both = Found({"c": "a"}, truth.cluster, more_parents={"c": frozenset("ab")})
    assert score(truth, both)["merge_parents_recall"] == 1.0
    turned = score(truth, Found({"b": "c"}, truth.cluster))
    assert (turned["directed_accuracy"], turned["undirected_accuracy"]) == (0.0, 1.0)


def test_nothing_found_has_no_precision() -> None:
    figures = score(TREE, Found({}, {}, {}))
    assert figures["precision"] is figures["direction_accuracy"] is figures["ece"] is None
    assert (figures["directed_accuracy"], figures["unplaced"]) == (0.0, 1.0)


def test_relations_and_stages() -> None:
    rows = [TruthRow("b", "a", "lora", "specialization"), TruthRow("c", "a", "copy", "generalization")]
    truth = make_truth(rows, "abc")
    found = Found(
        {"b": "a", "c": "a"}, truth.cluster, relation={"b": "lora", "c": "cast"}, stage={"b": "specialization"}
    )
    figures = score(truth, found)
    assert (figures["relation_accuracy"], figures["stage_accuracy"]) == (0.5, 1.0)
    assert figures["by_relation"] == {"copy": [1, 1], "lora": [1, 1]}


def test_judged_edges_of_orphans_and_roots_are_wrong() -> None:
    found = Found({"a": "b", "d": "b", "e": "a"}, CLUSTERS, {"a": 0.2, "d": 0.9, "e": 0.4})
    assert judged(TREE, found) == [(0.2, False), (0.9, True), (0.4, False)]


@given(PAIRS)
def test_calibration_error_is_its_definition(pairs: list[tuple[float, bool]]) -> None:
    expected = 0.0
    for k in range(10):
        inside = [(c, r) for c, r in pairs if int(c * 10) == k or (k == 9 and c == 1.0)]
        if inside:
            gap = abs(sum(c for c, _ in inside) / len(inside) - sum(r for _, r in inside) / len(inside))
            expected += len(inside) / len(pairs) * gap
    assert calibration_error(pairs) == pytest.approx(expected)
    assert sum(n for n, _, _ in calibration(pairs)) == len(pairs)
    assert 0.0 <= brier(pairs) <= 1.0


def test_calibration_error_by_hand() -> None:
    # Two bins: .8 claimed and .5 right of two edges; .25 claimed and 0 right of two.
    pairs = [(0.8, True), (0.8, False), (0.2, False), (0.3, False)]
    assert calibration_error(pairs) == pytest.approx(0.5 * 0.3 + 0.25 * 0.2 + 0.25 * 0.3)
    assert brier(pairs) == pytest.approx((0.04 + 0.64 + 0.04 + 0.09) / 4)


def _rand_by_pairs(one: list[int], other: list[int]) -> float:
    """Hubert and Arabie by counting pairs: (index - expected) / (most - expected)."""
    pairs = list(combinations(range(len(one)), 2))
    a = [one[i] == one[j] for i, j in pairs]
    b = [other[i] == other[j] for i, j in pairs]
    both = sum(x and y for x, y in zip(a, b, strict=True))
    expected = sum(a) * sum(b) / len(pairs) if pairs else 0.0
    most = (sum(a) + sum(b)) / 2
    return 1.0 if most == expected else (both - expected) / (most - expected)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=20))
def test_adjusted_rand_is_its_definition_and_symmetric(labels: list[tuple[int, int]]) -> None:
    one, other = [a for a, _ in labels], [b for _, b in labels]
    assert adjusted_rand(one, other) == pytest.approx(_rand_by_pairs(one, other))
    assert adjusted_rand(one, other) == pytest.approx(adjusted_rand(other, one))


@given(LABELS, st.permutations(range(5)))
def test_adjusted_rand_does_not_see_names(labels: list[int], names: list[int]) -> None:
    assert adjusted_rand(labels, [names[each] for each in labels]) == 1.0


@given(LABELS, LABELS, st.randoms())
def test_adjusted_rand_does_not_see_order(one: list[int], other: list[int], draw: object) -> None:
    n = min(len(one), len(other))
    at = list(range(n))
    draw.shuffle(at)  # type: ignore[attr-defined]
    expected = adjusted_rand(one[:n], other[:n])
    assert adjusted_rand([one[i] for i in at], [other[i] for i in at]) == pytest.approx(expected)


def test_adjusted_rand_by_hand() -> None:
    # 1 of 2 + 1 pairs agree: (1 - 2/6) / (1.5 - 2/6).
    assert adjusted_rand("aabb", "aabc") == pytest.approx((1 - 2 / 6) / (1.5 - 2 / 6))
    assert adjusted_rand("aabb", "abab") == pytest.approx(-0.5)
    assert adjusted_rand("abcd", "abcd") == 1.0
    assert adjusted_rand("aaaa", "abcd") == 0.0


def test_strangers_that_were_thrown_together_cost() -> None:
    together = dict.fromkeys(TREE.models, 0)
    assert score(TREE, Found({}, together))["ari"] < 0.01
    assert score(TREE, Found({}, CLUSTERS))["ari"] == 1.0
