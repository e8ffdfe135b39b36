"""Pools of confidences, and a picture of them that is the same every time."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.accuracy.reliability import OVERALL, draw, pooled, summary

LINES = [
    ("one", "a", [(0.95, True), (0.85, True), (0.15, False)]),
    ("one", "b", [(0.65, False)]),
    ("two", "c", [(0.75, True)]),
    ("two", "d", []),
]


def test_pools_hold_every_edge_once_at_each_level() -> None:
    pools = pooled(LINES)
    assert list(pools) == ["one/a", "one/b", "two/c", "two/d", "one", "two", OVERALL]
    assert {name: len(pool) for name, pool in pools.items()} == {
        "one/a": 3, "one/b": 1, "two/c": 1, "two/d": 0, "one": 4, "two": 1, OVERALL: 5,
    }  # fmt: skip
    rows = {row["pool"]: row for row in summary(pools)}
    assert "two/d" not in rows
    assert rows["two"]["ece"] == pytest.approx(0.25)
    assert rows[OVERALL]["right"] == pytest.approx(3 / 5)


def test_the_picture_is_the_same_every_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name in ("one.svg", "two.svg"):
        draw(pooled(LINES), tmp_path / name)
    first = (tmp_path / "one.svg").read_bytes()
    assert first == (tmp_path / "two.svg").read_bytes()
    assert b"<dc:date>" not in first
    assert b"overall: 5 edges" in first
