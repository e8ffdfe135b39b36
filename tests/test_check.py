"""`modelkin check` names what is wrong with a graph, and `modelkin repair` rebuilds what can be rebuilt."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pytest

from store.generation import GraphFolder
from tests.calling import call, rows
from tests.mended import CHILD, MERGE, NEGATIVE, ROOT, World, change, checks, failed, files, make, mend
from tests.runs import answers, index, inferred, leftovers


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make(tmp_path_factory.mktemp("made"))


@pytest.fixture
def world(made: World, tmp_path: Path) -> World:
    return made._replace(graph=shutil.copytree(made.graph, tmp_path / "graph"))


def test_a_sound_graph(world: World) -> None:
    before = files(world.graph)
    found = checks(world.graph)
    assert {each.state for each in found.values()} == {"ok"}, found
    assert found["shards"].says == "3 shards, 3 of them with a checksum"
    assert mend(world.graph).did == ()
    assert {name: data for name, data in files(world.graph).items() if name != "LOCK"} == {
        name: data for name, data in before.items() if name != "LOCK"
    }


def test_paths_equal_the_recursion(world: World) -> None:
    """What the check proves by induction, by its definition."""
    with duckdb.connect(str(GraphFolder(world.graph).database(2)), read_only=True) as connection:
        assert connection.sql(
            """with recursive line(id, path) as (
                   select id, [id] from (select model_id as id from components)
                   where id not in (select child_id from current_edges)
                   union all
                   select e.child_id, list_append(path, e.child_id) from line join current_edges e on parent_id = id
               )
               select count(*), count(*) filter (where c.path = line.path)
               from line join components c on model_id = id"""
        ).fetchall() == [(14, 14)]


DAMAGE = {
    "keys claim": ("keys", ["insert into claims values (999, 'base_model', 'x', 'README.md')"]),
    "keys edge": ("keys", [f"update edges set parent_id = 999 where child_id = {CHILD}"]),
    "keys runner-up": ("keys", [f"update edges set runner_up_id = 999 where child_id = {CHILD}"]),
    "keys run": ("keys", ["delete from runs where run_id = 1"]),
    "pairs twice": ("pairs", ["insert into pairs from (select * from pairs limit 1)"]),
    "keys pair": ("keys", ["insert into pairs values (1, 999, .1, .9, 1, 0, 8)"]),
    "two parents": (
        "edges",
        [
            "insert into edges select child_id, (select max(model_id) from models), relation, distance, confidence, "
            f"null, null, evidence, valid_from_run, null from current_edges where child_id = {CHILD}"
        ],
    ),
    "the same edge twice": (
        "edges",
        [f"insert into edges select * from edges where child_id = {CHILD}"],
    ),
    "own parent": ("edges", [f"update edges set parent_id = child_id where child_id = {CHILD}"]),
    "confidence": ("edges", [f"update edges set confidence = 1.5 where child_id = {CHILD}"]),
    "held backwards": (
        "edges",
        [
            "insert into edges select * replace (2 as valid_from_run, 1 as valid_to_run) from edges "
            f"where child_id = {CHILD}"
        ],
    ),
    "pair of the gone": ("pairs", ["update pairs set model_a = model_b, model_b = model_a"]),
    "merge of one": ("merges", [f"delete from merges where parent_id = {CHILD}"]),
    "merge without parents": ("merges", ["delete from merges"]),
    "merge of the same": ("merges", [f"update merges set parent_id = {CHILD}"]),
    "circle": (
        "circles",
        [
            "insert into edges select parent_id, child_id, relation, distance, confidence, null, null, evidence, 1, "
            f"null from current_edges where child_id = {CHILD}"
        ],
    ),
    "circle over a merge": (
        "circles",
        [
            f"insert into merges select {CHILD}, {MERGE}, .5, 'linear', 1, null "
            f"union all select {CHILD}, {ROOT}, .5, 'linear', 1, null"
        ],
    ),
    "path": ("paths", [f"update components set path = [{ROOT}, {ROOT}, {CHILD}] where model_id = {CHILD}"]),
    "path of a root": ("paths", [f"update components set path = [{CHILD}, {ROOT}] where model_id = {ROOT}"]),
    "depth": ("components", [f"update components set depth = 7 where model_id = {CHILD}"]),
    "members": ("components", ["update components set members = members + 1"]),
    "no place": ("places", [f"delete from components where model_id = {CHILD}"]),
    "no places": ("places", ["delete from components"]),
    "inferred twice": ("inferred", ["insert into inferred select * from inferred"]),
    "children": ("inferred", ["update inferred set children = 9"]),
    "no children": ("inferred", [f"delete from edges where parent_id = {NEGATIVE}"]),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_what_is_wrong_in_tables_is_told(world: World, what: str) -> None:
    check, statements = DAMAGE[what]
    change(world.graph, *statements)
    found = checks(world.graph)[check]
    assert found.state == "failed", checks(world.graph)
    assert found.count >= len(found.offenders) > 0


@pytest.mark.parametrize("check", sorted({check for check, _ in DAMAGE.values()}))
def test_what_is_wrong_in_tables_is_rebuilt(world: World, check: str) -> None:
    """All that can be wrong for one check, at once."""
    whole = inferred(world.graph)
    change(world.graph, *(each for name, statements in DAMAGE.values() if name == check for each in statements))
    planned = mend(world.graph, dry_run=True)
    assert planned.did
    assert failed(world.graph) >= {check}, "a dry run changes nothing"
    done = mend(world.graph)
    assert done.did == planned.did
    assert done.generation == 3
    assert failed(world.graph) == set()
    assert answers(world.graph) == world.says
    assert inferred(world.graph) == whole
    assert leftovers(world.graph) == []
    with duckdb.connect(str(GraphFolder(world.graph).database(3)), read_only=True) as connection:
        stages = connection.sql("select count(stage) from components where model_id > 0").fetchall()
    assert stages == [(13,)]


def test_a_name_that_is_live_twice(world: World) -> None:
    change(
        world.graph,
        f"insert into models select * replace (900 as model_id) from models where model_id = {CHILD}",
    )
    # The row holds no sketches of its own either.
    assert failed(world.graph) >= {"names", "sketches"}
    mend(world.graph)
    assert failed(world.graph) == set()
    index(world.source, world.graph)
    assert answers(world.graph) == world.says


def test_on_the_command_line(world: World) -> None:
    sound = call("check", world.graph)
    assert (sound.exit_code, sound.stdout.count("\n")) == (0, 16)
    change(world.graph, "update components set members = members + 1")
    told = call("check", graph=world.graph)
    assert told.exit_code == 1
    assert "failed  components  14 wrong" in told.stdout
    assert "... and 9 more" in told.stdout
    assert "`modelkin repair` rebuilds" in told.stderr
    lines = call("check", "--json", graph=world.graph)
    assert lines.exit_code == 1
    assert '"check": "components", "state": "failed"' in lines.stdout
    would = call("repair", world.graph, "--dry-run")
    assert would.stdout == "would be done: paths and trees rebuilt from the edges\n"
    done = call("repair", world.graph)
    assert done.stdout == "done: paths and trees rebuilt from the edges\n"
    assert "generation 3" in done.stderr
    assert {row["state"] for row in rows("check", graph=world.graph)} == {"ok"}
    assert [row["command"] for row in rows("runs", graph=world.graph)] == ["index", "index", "repair"]
    nowhere = call("check", world.graph / "no")
    assert (nowhere.exit_code, "no graph here" in nowhere.stderr) == (1, True)
