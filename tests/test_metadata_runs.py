"""Runs with metadata: whatever becomes of cards and dates, the graph equals a rebuild."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crawl.folder import FolderSource
from crawl.source import ModelRef, SkippedModel
from modelkin import ModelGraph
from modelkin.nightly import run
from scripts.hub_server import HubServer
from store.generation import open_reader
from store.lineage import setting
from store.progress import SilentProgress
from tests.calling import answer, call, rows
from tests.grown import grow, start
from tests.runs import answers, index, writer
from tests.small_graph import write_weights
from tests.source_files import declare
from tests.weights import Weights, save

WHEN = datetime(2024, 1, 1, tzinfo=UTC)


def _models() -> dict[str, Weights]:
    """A chain with branches, copies of two of its models, a cast, and a stranger of the same architecture."""
    root = start(5, layers=3, width=40)
    models = {"o/root": root, "o/c0": grow(root, 1), "o/c1": grow(root, 2), "stranger": start(9, layers=3, width=40)}
    models["o/c0-g"] = grow(models["o/c0"], 3)
    models["a/root-copy"] = models["z/root-copy"] = root
    models["a/c0-copy"] = models["o/c0"]
    models["o/c1-half"] = {name: w.astype("f2") for name, w in models["o/c1"].items()}
    return models


NAMES = sorted(_models())
cards = st.dictionaries(st.sampled_from(NAMES), st.sampled_from([*NAMES, "else/where"]), max_size=len(NAMES))
dates = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 5), max_size=len(NAMES))
steps = st.lists(st.tuples(st.sets(st.sampled_from(NAMES)), cards, dates), min_size=2, max_size=4)


class Dated(FolderSource):
    """A folder whose models have dates, as a Hub's have; another date is no new revision."""

    def __init__(self, path: Path, days: dict[str, int]) -> None:
        super().__init__(path)
        self.days = days

    def models(self) -> Iterator[ModelRef | SkippedModel]:
        for item in super().models():
            if isinstance(item, ModelRef) and item.name in self.days:
                yield ModelRef(item.name, item.revision, WHEN + timedelta(days=self.days[item.name]), item.modified_at)
            else:
                yield item


def evidence(graph: Path) -> dict[str, list[tuple[Any, ...]]]:
    with open_reader(graph) as connection:
        found = connection.sql(
            "select m.name, e.evidence from current_edges e join live_models m on m.model_id = e.child_id"
        ).fetchall()
    return {name: [tuple(each.values()) for each in cues] for name, cues in found}


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("everything")
    for name, weights in _models().items():
        save(folder / name, weights)
    return folder


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_any_history_of_cards_and_dates_equals_a_rebuild(
    everything: Path,
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[set[str], dict[str, str], dict[str, int]]],
) -> None:
    place = tmp_path_factory.mktemp("history")
    folder = place / "source"
    folder.mkdir()
    days: dict[str, int] = {}
    for step, (names, bases, moved) in enumerate(steps):
        # A date may change, but a source that gave one goes on giving one.
        days |= moved
        for name in NAMES:
            if name in names:
                shutil.copytree(everything / name, folder / name, dirs_exist_ok=True)
                declare(folder / name, bases.get(name))
            elif (folder / name).exists():
                shutil.rmtree(folder / name)
        source = Dated(folder, days)
        index(source, place / "grown", use_metadata=True)
        index(source, place / f"afresh-{step}", use_metadata=True)
        assert answers(place / "grown") == answers(place / f"afresh-{step}")
        assert evidence(place / "grown") == evidence(place / f"afresh-{step}")


def test_a_new_date_alone_moves_edges_without_reading(everything: Path, tmp_path: Path) -> None:
    for name in ("o/c0", "a/c0-copy"):
        shutil.copytree(everything / name, tmp_path / "source" / name)
    graph = tmp_path / "graph"
    index(Dated(tmp_path / "source", {"o/c0": 1, "a/c0-copy": 30}), graph, use_metadata=True)
    assert answers(graph)["a/c0-copy"].parent == "o/c0"
    report = index(Dated(tmp_path / "source", {"o/c0": 60, "a/c0-copy": 30}), graph)
    assert (report.unchanged, report.bytes_read) == (2, 0)
    assert answers(graph)["o/c0"].parent == "a/c0-copy"


def test_a_tree_answers_while_a_corrected_date_waits_for_its_update(everything: Path, tmp_path: Path) -> None:
    """Of a parent, without which its children would hang in the air; then it goes, before the update came."""
    for name in ("o/c0", "a/c0-copy"):
        shutil.copytree(everything / name, tmp_path / "source" / name)
    graph = tmp_path / "graph"
    index(Dated(tmp_path / "source", {"o/c0": 1, "a/c0-copy": 30}), graph, use_metadata=True)
    before = answers(graph)

    def crawl() -> None:
        run(
            graph,
            Dated(tmp_path / "source", {"o/c0": 60, "a/c0-copy": 30}),
            command="crawl", mode=None, budget=0, complete=True, progress=SilentProgress(), clock=lambda: WHEN,
        )  # fmt: skip

    crawl()
    assert answers(graph) == before
    with ModelGraph.open(graph) as opened:
        assert [node.model for node in opened.tree("a/c0-copy").nodes] == ["o/c0", "a/c0-copy"]
    shutil.rmtree(tmp_path / "source/o")
    crawl()
    index(Dated(tmp_path / "source", {"a/c0-copy": 30}), graph)
    assert list(answers(graph)) == ["a/c0-copy"]
    assert answers(graph)["a/c0-copy"].parent is None


def test_switching_metadata_solves_everything_again(everything: Path, tmp_path: Path) -> None:
    shutil.copytree(everything, tmp_path / "source")
    declare(tmp_path / "source/a/root-copy", "z/root-copy")
    graph = tmp_path / "graph"
    index(tmp_path / "source", graph)
    alone = answers(graph)
    assert alone["z/root-copy"].parent == "a/root-copy"
    index(tmp_path / "source", graph, use_metadata=True)
    allowed = answers(graph)
    assert allowed["a/root-copy"].parent == "z/root-copy"
    # An update that does not say keeps what it was.
    index(tmp_path / "source", graph)
    assert answers(graph) == allowed
    index(tmp_path / "source", graph, use_metadata=False)
    assert answers(graph) == alone


def test_a_switch_that_was_killed_halfway_leaves_no_mixture(everything: Path, tmp_path: Path) -> None:
    class Dies(SilentProgress):
        def advance(self, n: int = 1, note: str = "") -> None:
            raise KeyboardInterrupt

    from indexer.update import update

    shutil.copytree(everything, tmp_path / "source")
    declare(tmp_path / "source/a/root-copy", "z/root-copy")
    graph = tmp_path / "graph"
    index(tmp_path / "source", graph)
    alone = answers(graph)
    with pytest.raises(KeyboardInterrupt), writer(graph, FolderSource(tmp_path / "source")) as half:
        update(half, mode="default", progress=Dies(), use_metadata=True)
    index(tmp_path / "source", graph, use_metadata=False)
    assert answers(graph) == alone


def used(graph: Path) -> str | None:
    with open_reader(graph) as connection:
        return setting(connection, "use_metadata")


def test_metadata_counts_on_a_hub_and_not_in_folders(tmp_path: Path) -> None:
    # Bit-equal: weights alone take the first name, the Hub knows which was there first.
    first = write_weights(tmp_path / "hub/lab/original", 1)
    shutil.copytree(first, tmp_path / "hub/ada/mirror")
    for name, day in (("lab/original", 1), ("ada/mirror", 200)):
        moment = (WHEN + timedelta(days=day)).timestamp()
        for file in (tmp_path / "hub" / name).iterdir():
            os.utime(file, (moment, moment))
    graph = tmp_path / "graph"
    with HubServer(tmp_path / "hub") as hub:
        answer("index", hub.url, graph=graph)
        assert used(graph) == "true"
        assert [row["parent"] for row in rows("edges", graph=graph)] == ["lab/original"]
        answer("update", graph=graph)
        assert used(graph) == "true"
        answer("update", "--weights-only", graph=graph)
        assert [row["parent"] for row in rows("edges", graph=graph)] == ["ada/mirror"]
        answer("update", graph=graph)
        assert used(graph) == "false"
        answer("nightly", hub.url, graph=graph)
        assert used(graph) == "true"
        answer("nightly", hub.url, "--weights-only", graph=graph)
        assert used(graph) == "false"
        # What was crawled and never solved is solved as its source has it.
        answer("crawl", hub.url, graph=tmp_path / "crawled")
        assert used(tmp_path / "crawled") == ""
        answer("update", graph=tmp_path / "crawled")
        assert used(tmp_path / "crawled") == "true"
    answer("index", tmp_path / "hub", graph=tmp_path / "local")
    assert used(tmp_path / "local") == "false"
    answer("index", tmp_path / "hub", "--use-metadata", graph=tmp_path / "local")
    assert used(tmp_path / "local") == "true"


def test_a_schedule_hands_it_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[Any] = []
    monkeypatch.setattr("modelkin.schedule.serve", lambda job, cron, **_: jobs.append(job))
    for words in ([], ["--use-metadata"], ["--weights-only"]):
        assert call("schedule", "--cron", "0 2 * * *", tmp_path, *words, graph=tmp_path / "graph").exit_code == 0
    assert [job.use_metadata for job in jobs] == [None, True, False]


def test_identify_answers_as_index_would(tmp_path: Path) -> None:
    weights = start(3, layers=3, width=40)
    for name in ("a/first", "b/second"):
        save(tmp_path / "source" / name, weights)
    save(tmp_path / "source/child", grow(weights, 1))
    asked = tmp_path / "asked"
    save(asked, grow(weights, 2))
    declare(asked, "b/second")
    for used_metadata, expected in ((False, "a/first"), (True, "b/second")):
        run(
            tmp_path / "graph",
            FolderSource(tmp_path / "source"),
            command="index",
            mode="default",
            budget=0,
            complete=True,
            progress=SilentProgress(),
            clock=lambda: WHEN,
            use_metadata=used_metadata,
        )
        with ModelGraph.open(tmp_path / "graph") as graph:
            assert graph.identify(asked)[0].name == expected
