"""Disks that are full: the run says so and stops, the graph answers as before, and once there is space it goes on."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.check import check_graph, sound
from store.errors import StopError
from store.generation import GraphFolder
from store.progress import SilentProgress
from tests.killable import STOPPED, Killable
from tests.runs import answers, index, leftovers
from tests.weights import family

DISK = 64 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of DISK bytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a file system can only be mounted by root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path, free: int) -> Path:
    """Leave `free` bytes on the disk; returns the file that takes the rest."""
    state = os.statvfs(disk)
    filler = disk / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, state.f_bavail * state.f_frsize - free)
    return filler


def test_a_full_disk_stops_the_run_and_harms_nothing(tmp_path: Path, small_disk: Path) -> None:
    source, graph = tmp_path / "source", small_disk / "graph"
    family(source, "good", 1, 3)
    index(source, graph)
    before = answers(graph)
    shutil.copytree(graph, tmp_path / "kept")
    for at in range(5):
        family(source, f"family-{at}", at + 2, 3)
    index(source, tmp_path / "elsewhere")
    after = answers(tmp_path / "elsewhere")
    size = GraphFolder(graph).database(1).stat().st_size

    stopped = 0
    # From nothing to enough: there is no space to copy the graph, for a log, for sketches, for the last checkpoint.
    for free in (0, 4096, size // 2, *(size + (1 << power) for power in range(14, 26, 2))):
        shutil.rmtree(graph)
        shutil.copytree(tmp_path / "kept", graph)
        filler = fill(small_disk, free)
        told = ""
        try:
            index(source, graph, workers=1)
        except StopError as error:
            told = str(error)
        if told:
            stopped += 1
            assert told.startswith(f"{graph}: writing failed (")
            assert os.strerror(errno.ENOSPC) in told
            assert "free some space" in told
            assert answers(graph) == before
            assert sound(check_graph(graph, SilentProgress()).checks)
            with pytest.raises(StopError, match=r"writing failed .*free some space"):
                index(source, graph, workers=1)
        filler.unlink()
        index(source, graph, workers=1)
        assert answers(graph) == after
        assert leftovers(graph) == []
    assert 4 <= stopped < 9, "the space ran out at many places, and sufficed in the end"


def test_the_first_run_on_a_full_disk(tmp_path: Path, small_disk: Path) -> None:
    source, graph = tmp_path / "source", small_disk / "graph"
    family(source, "good", 1)
    for free in (0, 4096, 1 << 16, 1 << 20):
        filler = fill(small_disk, free)
        with pytest.raises(StopError, match=os.strerror(errno.ENOSPC)):
            index(source, graph)
        with pytest.raises(StopError, match="no graph here; make one"):
            answers(graph)
        filler.unlink()
    index(source, graph)
    assert len(answers(graph)) == 2
    assert leftovers(graph) == []


def test_what_was_read_before_the_disk_was_full_is_not_read_again(tmp_path: Path, small_disk: Path) -> None:
    source, graph = tmp_path / "source", small_disk / "graph"
    for at in range(3):
        family(source, f"family-{at}", at + 2, 4)
    fill(small_disk, 3 << 20)
    # Sketches fit and the database does not.
    with pytest.raises(StopError, match=os.strerror(errno.ENOSPC)):
        index(source, graph)
    (small_disk / "filler").unlink()
    report = index(source, graph)
    assert (report.new, report.unchanged) == (0, 15)


def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    """As a full disk, where no disk can be made: a file that may not grow fails like one that cannot."""
    source, graph = tmp_path / "source", tmp_path / "graph"
    family(source, "good", 1)
    index(source, graph)
    before = answers(graph)
    size = GraphFolder(graph).database(1).stat().st_size
    family(source, "more", 2)
    with Killable() as killable:
        for limit in (1000, size // 2, size - 1):
            outcome = killable.run(source, graph, limit=limit)
            assert outcome.status == STOPPED
            assert outcome.said.startswith(f"{graph}: writing failed (")
            assert os.strerror(errno.EFBIG) in outcome.said
            assert "current generation is untouched" in outcome.said
            assert answers(graph) == before
            assert sound(check_graph(graph, SilentProgress()).checks)
    index(source, graph)
    assert len(answers(graph)) == 4
    assert leftovers(graph) == []
