"""Runs that are killed by SIGKILL where trees are large: what is kept of these beside the graph misleads nobody."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import pytest

from store.answers import answers_path
from store.check import check_graph, sound
from store.generation import GraphFolder
from store.progress import SilentProgress
from tests.killable import KILLED, Killable
from tests.large_trees import lower_limits
from tests.runs import answers, index, leftovers
from tests.test_kill import World
from tests.weights import family, root, save, tuned

POINTS = 14
MOMENTS = 8


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("kill")
    source, base = folder / "source", folder / "base"
    with pytest.MonkeyPatch.context() as patch, Killable(large=True) as killable:
        lower_limits(patch.setattr)
        family(source, "large", 1, 24)
        family(source, "small", 2, 3)
        # What it was made from comes later: until then it hangs on something else.
        late = tuned(root(1), 52)
        save(source / "large" / "eight", {name: w.astype(ml_dtypes.float8_e4m3fn) for name, w in late.items()})
        index(source, base)
        # The next run reads the large tree by row, and its edges stand.
        save(source / "large" / "late", tuned(root(1), 50))
        index(source, base)
        before = answers(base)
        assert list(answers_path(base).glob("*.record"))
        save(source / "large" / "later", tuned(root(1), 51))
        save(source / "large" / "latest", late)
        shutil.rmtree(source / "large" / "child-3")
        unbroken = shutil.copytree(base, folder / "unbroken")
        outcome = killable.run(source, unbroken)
        assert outcome.status == 0
        after = answers(unbroken)
        assert before["large/eight"].parent != after["large/eight"].parent == "large/latest"
        index(source, folder / "new")
        assert answers(folder / "new") == after, "history has left a trace"
        yield World(killable, source, base, before, after, int(outcome.said))


def check(world: World, graph: Path) -> None:
    generation = GraphFolder(graph).current()
    assert generation in (2, 3)
    assert answers(graph) == (world.before if generation == 2 else world.after)
    assert sound(check_graph(graph, SilentProgress()).checks)
    index(world.source, graph, workers=1)
    assert answers(graph) == world.after
    assert leftovers(graph) == []


def test_killed_at_points_over_the_whole_run(tmp_path: Path, world: World) -> None:
    for point in range(1, world.points + 1, max(1, world.points // POINTS)):
        graph = shutil.copytree(world.base, tmp_path / f"{point}")
        assert world.killable.run(world.source, graph, point=point).status == KILLED
        check(world, graph)


def test_killed_at_any_moment(tmp_path: Path, world: World) -> None:
    times = random.Random(11)
    for trial in range(MOMENTS):
        graph = shutil.copytree(world.base, tmp_path / f"{trial}")
        world.killable.run(world.source, graph, seconds=times.uniform(0.05, 1.0))
        check(world, graph)


def test_answers_of_another_time_mislead_nobody(tmp_path: Path, world: World) -> None:
    """As after a crash that kept some files and lost others: newer answers beside an older graph, and some of each."""
    graph = shutil.copytree(world.base, tmp_path / "newer")
    ahead = shutil.copytree(world.base, tmp_path / "ahead")
    index(world.source, ahead)
    shutil.rmtree(answers_path(graph))
    shutil.copytree(answers_path(ahead), answers_path(graph))
    check(world, graph)
    for kind in {path.name.partition(".")[2] for path in answers_path(ahead).glob("*.record")}:
        graph = shutil.copytree(world.base, tmp_path / f"newer-{kind}")
        for path in answers_path(ahead).glob(f"*.{kind}"):
            shutil.copy2(path, answers_path(graph) / path.name)
        check(world, graph)
    for seed in range(4):
        graph = shutil.copytree(world.base, tmp_path / f"mixed-{seed}")
        chance = random.Random(seed)
        for path in sorted(answers_path(ahead).iterdir()):
            if chance.random() < 0.5:
                shutil.copy2(path, answers_path(graph) / path.name)
            elif chance.random() < 0.3:
                (answers_path(graph) / path.name).unlink(missing_ok=True)
        check(world, graph)
