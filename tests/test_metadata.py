"""Dates and declared bases as evidence: what they weigh, where they decide, and where the weights overrule them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from indexer.copies import group_copies
from indexer.metadata import (
    CLAIM_RIGHT,
    UPLOADED_IN_ORDER,
    Metadata,
    claim_log_odds,
    declared_rows,
    metadata_prior,
    order_log_odds,
)
from indexer.solve import solve_component
from store.records import Edge
from tests.grown import family_of, grow, start
from tests.weights import Weights

DAY = 86_400.0
SURE = float(np.log(UPLOADED_IN_ORDER / (1 - UPLOADED_IN_ORDER)))


def solve(
    models: Mapping[str, Weights],
    bases: Mapping[str, tuple[str, ...]] | None = None,
    days: Mapping[str, float] | None = None,
) -> dict[str, tuple[str, Edge]]:
    """Child -> (parent, edge); weights only unless `bases` or `days` are given."""
    family = family_of(models)
    names = family.names
    family = replace(family, created=np.array([(days or {}).get(name, np.nan) for name in names]) * DAY)
    metadata = Metadata(("hub",) * len(names), tuple((bases or {}).get(name, ()) for name in names))
    edges = solve_component(family, None if bases is None else metadata).edges
    return {names[edge.child_id - 1]: (names[edge.parent_id - 1], edge) for edge in edges}


def cue(edge: Edge, name: str) -> Any:
    """(value, log-odds, sentence) of a cue; None without it."""
    found = [(e.value, e.log_odds, e.says) for e in edge.evidence if e.cue == name]
    assert len(found) <= 1
    return found[0] if found else None


def test_dates_weigh_more_the_further_they_lie_apart() -> None:
    days = np.array([0.0, 1 / 1440, 1 / 24, 1.0, 30.0, 3000.0])
    odds = order_log_odds(days)
    assert odds[0] == 0
    assert (np.diff(odds) >= 0).all()
    assert odds[1] < 0.02  # a minute
    assert odds[2] < 0.5  # an hour
    assert odds[-1] == pytest.approx(SURE)
    assert order_log_odds(-days) == pytest.approx(-odds)
    assert order_log_odds(np.array([np.nan]))[0] == 0


def test_a_claim_weighs_its_odds_among_all_other_places() -> None:
    odds = np.log(CLAIM_RIGHT / (1 - CLAIM_RIGHT))
    assert claim_log_odds(101, 1) == pytest.approx(odds + np.log(100))
    # A card that names two is right about one of them.
    assert claim_log_odds(101, 2) == pytest.approx(odds + np.log(99 / 2))
    assert claim_log_odds(5, 0) == 0
    # Whoever names everybody says nothing, and not the reverse.
    assert claim_log_odds(60, 59) == 0


def test_the_prior_of_a_component() -> None:
    created = np.array([0.0, 100.0, np.nan]) * DAY
    prior = metadata_prior(created, [(), (), (0,)])
    assert prior.shape == (4, 3)
    assert prior[1, 0] - prior[0, 1] == pytest.approx(SURE)
    assert prior[0, 2] == pytest.approx(-claim_log_odds(3, 1))
    unknown = [(1, 2), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)]
    assert [prior[at] for at in unknown] == [0] * 6
    assert not metadata_prior(np.full(4, np.nan), [()] * 4).any()


def test_a_card_means_the_model_beside_it() -> None:
    names = ("a", "b", "b", "c")
    sources = ("two", "one", "two", "three")
    bases = (("b", "c", "gone"), ("b",), ("c", "c"), ("b",))
    assert declared_rows(names, Metadata(sources, bases)) == ((2, 3), (), (3,), (1,))


def test_metadata_of_some_rows_is_read_anew() -> None:
    metadata = Metadata(("s", "s", "s"), (("b",), (), ("a", "b")))
    assert declared_rows(("a", "b", "c"), metadata) == ((1,), (), (0, 1))
    assert declared_rows(("c", "a"), metadata.take([2, 0])) == ((1,), ())


@pytest.fixture(scope="module")
def root() -> Weights:
    return start(7, layers=4, width=48)


def test_weights_alone_do_not_know_which_copy_was_first(root: Weights) -> None:
    models = {"a": root, "b": root, "c": root, "child": grow(root, 1)}
    found = solve(models, days={"a": 9.0, "b": 5.0, "c": 7.0})
    assert (found["b"][0], found["c"][0]) == ("a", "a")
    assert found["b"][1].confidence == pytest.approx(1 / 3)
    assert cue(found["b"][1], "upload_order") is None


def test_the_first_upload_is_the_original(root: Weights) -> None:
    models = {"a": root, "b": root, "c": root, "child": grow(root, 1)}
    found = solve(models, {}, {"a": 9.0, "b": 5.0, "c": 7.0, "child": 20.0})
    assert {child: parent for child, (parent, _) in found.items()} == {"a": "b", "c": "b", "child": "b"}
    assert found["a"][1].confidence > 0.99
    told = cue(found["a"][1], "upload_order")
    assert told[0] == 4
    assert told[2] == "the parent was uploaded 4.0 days before the child"


def test_a_copy_hangs_where_its_card_says(root: Weights) -> None:
    models = {"a": root, "b": root, "c": root, "child": grow(root, 1)}
    found = solve(models, {"a": ("b",), "c": ("a",), "child": ("a",)})
    assert {child: parent for child, (parent, _) in found.items()} == {"a": "b", "c": "a", "child": "a"}
    told = cue(found["c"][1], "claim")
    assert told[0] == 1
    # Nobody names a bit-equal model by chance: a card outweighs a date.
    assert solve({"a": root, "b": root}, {"a": ("b",)}, {"a": 1.0, "b": 5.0})["a"][0] == "b"
    # Two that declare each other: the date decides.
    found = solve({"a": root, "b": root}, {"a": ("b",), "b": ("a",)}, {"a": 5.0, "b": 1.0})
    assert found["a"][0] == "b"
    assert solve({"a": root, "b": root}, {"a": ("b",), "b": ("a",)})["b"][0] == "a"


def test_chains_of_claimed_copies_close_no_circle(root: Weights) -> None:
    family = family_of(dict.fromkeys("abcd", root))
    metadata = Metadata(("s",) * 4, (("b",), ("c",), ("d",), ("a",)))
    found = {edge.child_id: edge.parent_id for edge in solve_component(family, metadata).edges}
    assert found == {2: 3, 3: 4, 4: 1}
    assert group_copies(family, metadata) == {0: [1, 2, 3]}


def test_dates_decide_where_weights_tie(root: Weights) -> None:
    # Two children of a model that nobody has: neither descends from the other more than the reverse.
    twins = {"a": grow(root, 1), "b": grow(root, 2)}
    for first, later in (("a", "b"), ("b", "a")):
        ((child, (parent, edge)),) = solve(twins, {}, {first: 0.0, later: 100.0}).items()
        assert (parent, child) == (first, later)
        assert edge.confidence > 0.9
        told = cue(edge, "upload_order")
        assert told[:2] == (100.0, pytest.approx(SURE))


def test_a_false_claim_loses_against_weights(root: Weights) -> None:
    models = {"r": root, "a": grow(root, 1), "b": grow(root, 2)}
    models |= {"a1": grow(models["a"], 3), "b1": grow(models["b"], 4)}
    before = solve(models)
    after = solve(models, {"a1": ("b",), "b1": ("r",)})
    assert {c: p for c, (p, _) in after.items()} == {c: p for c, (p, _) in before.items()}
    assert after["a1"][0] == "a"
    false, distant = cue(after["a1"][1], "claim"), cue(after["b1"][1], "claim")
    assert false == (-1.0, pytest.approx(-claim_log_odds(5, 1)), "the card declares b, which the weights contradict")
    assert distant[2] == "the card declares r, an ancestor; by the weights there is a model in between"
    assert cue(after["a"][1], "claim") is None


def test_a_true_claim_rescues_a_wrong_edge(root: Weights) -> None:
    tuned = grow(root, 1, 0.05)
    # Trained on from `tuned`, it forgets most of what that had learned: by the weights it came from the root.
    moved = grow(tuned, 2, 0.15)
    models = {"root": root, "tuned": tuned, "last": {n: moved[n] - 0.6 * (tuned[n] - root[n]) for n in root}}
    models |= {f"other{i}": grow(root, 10 + i) for i in range(3)}
    assert solve(models)["last"][0] == "root"
    parent, edge = solve(models, {"last": ("tuned",)})["last"]
    assert parent == "tuned"
    assert cue(edge, "claim") == (1.0, pytest.approx(claim_log_odds(6, 1)), "the card declares tuned as its base")


def test_a_claimed_cast_means_what_it_was_cast_from(root: Weights) -> None:
    half = {name: w.astype(np.float16) for name, w in root.items()}
    models = {"base": root, "base-fp16": half, "child": grow(root, 1), "other": grow(root, 2)}
    found = solve(models, {"child": ("base-fp16",), "base-fp16": ("base",)}, {"base": 1.0, "base-fp16": 9.0})
    assert {c: p for c, (p, _) in found.items()} == {"base-fp16": "base", "child": "base", "other": "base"}
    claimed = cue(found["child"][1], "claim")
    assert claimed == (1.0, pytest.approx(claim_log_odds(3, 1)), "the card declares base-fp16 as its base")
    # What was found exactly was not searched for: there the claim informs and has no vote.
    assert cue(found["base-fp16"][1], "claim") == (1.0, 0.0, "the card declares base as its base")
    assert cue(found["base-fp16"][1], "upload_order") is not None


def test_the_card_of_a_copy_speaks_where_the_original_is_silent(root: Weights) -> None:
    child = grow(root, 1)
    models = {"base": root, "child": child, "mirror": child, "other": grow(root, 2)}
    found = solve(models, {"mirror": ("base",)}, {"child": 1.0, "mirror": 2.0})
    told = cue(found["child"][1], "claim")
    assert told[2] == "the card of its copy mirror declares base as its base"


def test_unknown_metadata_changes_nothing(root: Weights) -> None:
    models = {"r": root, "a": grow(root, 1), "b": grow(root, 2), "copy": root}
    assert solve(models, {"a": ("elsewhere/base", "a")}) == solve(models)
