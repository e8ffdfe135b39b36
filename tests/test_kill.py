"""Runs that are killed by SIGKILL: the graph answers as before, and the next run ends where an unbroken one does."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from store.check import check_graph, sound
from store.generation import GraphFolder
from store.progress import SilentProgress
from tests.killable import KILLED, Killable
from tests.runs import Placed, answers, index, leftovers
from tests.weights import family, root, save, tuned

RANDOM_KILLS = 15


class World(NamedTuple):
    """A source that has changed since its graph was written."""

    killable: Killable
    source: Path
    base: Path
    """The graph as it is: generation 1, of the source as it was."""
    before: dict[str, Placed]
    after: dict[str, Placed]
    """What an unbroken run makes of it."""
    points: int
    """Where such a run can be killed."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("kill")
    source, base = folder / "source", folder / "base"
    for at in range(4):
        family(source, f"family-{at}", at + 1, 5)
    index(source, base)
    before = answers(base)
    # New relatives, a new family, a model with new weights, and one that is gone.
    family(source, "family-4", 5, 4)
    save(source / "family-0" / "late", tuned(root(1), 50))
    save(source / "family-1" / "child-3", tuned(root(2), 51))
    shutil.rmtree(source / "family-2" / "root")
    with Killable() as killable:
        unbroken = shutil.copytree(base, folder / "unbroken")
        outcome = killable.run(source, unbroken)
        assert outcome.status == 0
        after = answers(unbroken)
        assert len(before) == 24
        assert len(after) == 29
        index(source, folder / "new")
        assert answers(folder / "new") == after, "history has left a trace"
        yield World(killable, source, base, before, after, int(outcome.said))


def check(world: World, graph: Path) -> tuple[int, int]:
    """After a kill: the generation that it left, and how many models the next run had to read."""
    generation = GraphFolder(graph).current()
    assert generation in (1, 2)
    assert answers(graph) == (world.before if generation == 1 else world.after)
    assert sound(check_graph(graph, SilentProgress()).checks)
    report = index(world.source, graph, workers=1)
    assert answers(graph) == world.after
    assert leftovers(graph) == []
    return generation, report.new + report.changed


def test_killed_at_points_over_the_whole_run(tmp_path: Path, world: World) -> None:
    """Before and after what it does to files and transactions; every eighth point, and all of the last ones."""
    generations, read = [], []
    points = [*range(1, world.points - 8, 8), *range(world.points - 8, world.points + 1)]
    for point in points:
        graph = shutil.copytree(world.base, tmp_path / f"{point}")
        assert world.killable.run(world.source, graph, point=point).status == KILLED
        generation, models = check(world, graph)
        generations.append(generation)
        read.append(models)
    # The kills were spread: before the first model was kept, after the last one, and on both sides of the swap.
    assert {1, 2} == set(generations)
    assert generations == sorted(generations)
    assert {0, 3, 7} <= set(read), read


def test_killed_at_any_moment(tmp_path: Path, world: World) -> None:
    times = random.Random(7)
    killed = 0
    for trial in range(RANDOM_KILLS):
        graph = shutil.copytree(world.base, tmp_path / f"{trial}")
        killed += world.killable.run(world.source, graph, seconds=times.uniform(0.001, 0.6)).status == KILLED
        check(world, graph)
    assert killed


def test_killed_again_and_again(tmp_path: Path, world: World) -> None:
    """Each run dies a little later than the one before, on the same graph, from its first generation on."""
    graph = tmp_path / "graph"
    statuses: list[int] = []
    while 0 not in statuses:
        point = 4 + 12 * len(statuses)
        statuses.append(world.killable.run(world.source, graph, point=point).status)
        assert statuses[-1] in (0, KILLED)
    assert len(statuses) > 3
    assert answers(graph) == world.after
    assert leftovers(graph) == []
