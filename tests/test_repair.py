"""Files of a graph that are damaged, missing or too many: `modelkin check` tells, `modelkin repair` mends."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from store.errors import StopError
from store.generation import GraphFolder
from tests.calling import call
from tests.mended import CHILD, World, change, checks, failed, files, make, mend
from tests.runs import answers, index, leftovers, skipped, writer


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make(tmp_path_factory.mktemp("made"))


@pytest.fixture
def world(made: World, tmp_path: Path) -> World:
    return made._replace(graph=shutil.copytree(made.graph, tmp_path / "graph"))


def _flip(shard: Path) -> None:
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)


def _cut(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:-100])


SHARD_DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped": (_flip, "has checksum"),
    "cut": (_cut, "has checksum"),
    "gone": (Path.unlink, "is not there"),
    "empty": (lambda shard: shard.write_bytes(b""), "has checksum"),
}


@pytest.mark.parametrize("what", SHARD_DAMAGE)
def test_models_of_a_damaged_shard_are_read_again(world: World, what: str) -> None:
    harm, why = SHARD_DAMAGE[what]
    shard = _shard_of(world.graph, "m/a")
    harm(world.graph / shard)
    found = checks(world.graph)["shards"]
    assert found.offenders[0].startswith(f"{shard}: {why}")
    assert found.count == 1
    done = mend(world.graph)
    assert done.lost == 4
    assert failed(world.graph) == set()
    assert set(answers(world.graph)) == {name for name in world.says if name.startswith("d/")}
    told: list[dict[str, Any]] = skipped(world.graph)
    assert {row["name"] for row in told} == {name for name in world.says if name.startswith("m/")}
    assert {row["reason"] for row in told} == {"damaged_sketches"}
    assert index(world.source, world.graph).new == 4
    assert answers(world.graph) == world.says
    assert failed(world.graph) == set()


def _shard_of(graph: Path, name: str) -> str:
    folder = GraphFolder(graph)
    with duckdb.connect(str(folder.database(folder.current() or 0)), read_only=True) as connection:
        (shard,) = connection.execute("select shard from models where name = ?", [name]).fetchone() or ("",)
    return str(shard)


def test_shards_without_a_checksum_are_read_whole(world: World) -> None:
    shard = _shard_of(world.graph, "m/a")
    plain = shard[:-41] + ".parquet"
    (world.graph / shard).rename(world.graph / plain)
    change(world.graph, f"update models set shard = '{plain}' where shard = '{shard}'")
    found = checks(world.graph)
    assert found["shards"].says == "3 shards, 2 of them with a checksum"
    _flip(world.graph / plain)
    assert failed(world.graph) == {"shards"}


def test_sketches_that_are_not_there(world: World) -> None:
    change(world.graph, f"update models set tensors = tensors + 1 where model_id = {CHILD}")
    assert failed(world.graph) == {"sketches"}
    assert mend(world.graph).lost == 1
    assert failed(world.graph) == set()
    index(world.source, world.graph)
    assert answers(world.graph) == world.says


@pytest.mark.parametrize("text", [None, "", "graph-000009.duckdb\n", "nonsense"])
def test_a_broken_pointer(world: World, text: str | None) -> None:
    pointer = world.graph / "CURRENT"
    pointer.unlink() if text is None else pointer.write_text(text)
    assert failed(world.graph) == {"CURRENT"}
    assert "generation 2" in mend(world.graph, dry_run=True).did[0]
    assert failed(world.graph) == {"CURRENT"}
    assert mend(world.graph).generation == 2
    assert failed(world.graph) == set()
    assert answers(world.graph) == world.says


def test_a_generation_that_cannot_be_read(world: World) -> None:
    """Generation 1 is a run older: its source brings back what it lacks."""
    newest = GraphFolder(world.graph).database(2)
    newest.write_bytes(b"no database")
    assert failed(world.graph) == {"CURRENT"}
    done = mend(world.graph)
    assert done.generation == 1
    assert "generation 2 cannot be read and is kept as graph-000002.duckdb.damaged" in done.did
    assert "d/late" not in answers(world.graph)
    assert failed(world.graph) == set()
    assert index(world.source, world.graph).new == 1
    assert answers(world.graph) == world.says


def test_nothing_can_be_read(world: World) -> None:
    for generation in (1, 2):
        GraphFolder(world.graph).database(generation).write_bytes(b"no database")
    before = files(world.graph)
    with pytest.raises(StopError, match="none of the generations 1, 2 can be read; nothing was changed"):
        mend(world.graph)
    assert {**files(world.graph), "LOCK": b""} == {**before, "LOCK": b""}


def test_leftovers_are_told_and_removed(world: World) -> None:
    shard = world.graph / _shard_of(world.graph, "m/a")
    for orphan in (shard.with_name("000009-1-1.parquet"), shard.with_name(f"{shard.name}.tmp")):
        shutil.copy(shard, orphan)
    (world.graph / "copy.tmp").write_bytes(b"")
    found = checks(world.graph)["leftovers"]
    assert (found.state, found.count) == ("note", 3)
    assert len(mend(world.graph).did) == 3
    assert checks(world.graph)["leftovers"].state == "ok"
    assert answers(world.graph) == world.says


def test_a_run_that_is_going_on_is_not_judged(world: World) -> None:
    change(world.graph, "update components set members = 9")
    with writer(world.graph, _source(world)):
        assert checks(world.graph)["leftovers"].says.startswith("a run is going on")
        with pytest.raises(StopError, match="is writing to this graph"):
            mend(world.graph)
    found = checks(world.graph)["leftovers"]
    assert (found.state, found.says) == ("note", "of an interrupted run; the next one goes on from it")
    mend(world.graph)
    assert {each.state for each in checks(world.graph).values()} == {"ok"}
    assert answers(world.graph) == world.says


def _source(world: World) -> Any:
    from crawl.folder import FolderSource

    return FolderSource(world.source)


def test_between_crawl_and_update_models_wait_for_their_place(world: World) -> None:
    shutil.rmtree(world.source / "d" / "late")
    assert call("crawl", world.source, graph=world.graph).exit_code == 0
    found = checks(world.graph)
    assert {each.state for each in found.values()} == {"ok"}, found
    assert "the last run was a crawl" in found["places"].says
    assert call("update", graph=world.graph).exit_code == 0
    assert failed(world.graph) == set()


def test_what_cannot_be_rebuilt_leaves_the_graph_as_it_is(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    change(world.graph, f"update edges set parent_id = child_id where child_id = {CHILD}")
    before = GraphFolder(world.graph).database(2).read_bytes()
    monkeypatch.setattr("modelkin.repair.forget_places", lambda *_: None)
    monkeypatch.setattr("indexer.update.changed", lambda *_: [])
    with pytest.raises(StopError, match=r"cannot all be rebuilt \(edges: m/a .* the graph was left as it is"):
        mend(world.graph)
    assert GraphFolder(world.graph).current() == 2
    assert GraphFolder(world.graph).database(2).read_bytes() == before
    assert leftovers(world.graph) == []


def test_nothing_goes_on_from_a_repair_that_was_killed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    change(world.graph, "delete from components")
    with monkeypatch.context() as killed:
        killed.setattr("modelkin.repair._expect_sound", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            mend(world.graph)
    assert (world.graph / "building.duckdb").exists()
    assert failed(world.graph) >= {"places"}
    mend(world.graph)
    assert failed(world.graph) == set()
    assert answers(world.graph) == world.says
    assert leftovers(world.graph) == []


def test_a_half_built_generation_that_cannot_be_read(world: World) -> None:
    (world.graph / "building.duckdb").write_bytes(b"no database")
    assert mend(world.graph).did == ("building.duckdb removed, which a killed run left and which cannot be read",)
    assert leftovers(world.graph) == []


def test_a_damaged_shard_is_told_to_readers_with_what_to_do(world: World) -> None:
    (world.graph / _shard_of(world.graph, "m/a")).write_bytes(b"no shard")
    with pytest.raises(StopError, match=r"its sketches cannot be read .*`modelkin repair` mends the graph"):
        answers(world.graph)
