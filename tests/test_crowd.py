"""Readers in processes of their own while runs publish and a second writer comes; `scripts/crowd_test` has more."""

from __future__ import annotations

from pathlib import Path

from scripts.crowd import crowd


def test_readers_and_a_second_writer(tmp_path: Path) -> None:
    seen = crowd(tmp_path, readers=6, runs=2, families=3, pause=0.05)
    assert seen.wrong == ()
    assert seen.reads > seen.readers
    assert seen.refused
    assert seen.longest < 20
