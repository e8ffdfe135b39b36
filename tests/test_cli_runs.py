"""Commands that write, and what becomes of them when they are interrupted or two come at once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from modelkin.sources import SourceChoice
from scripts.hub_server import HubServer
from store.errors import StopError
from tests.calling import answer, call, rows, shell
from tests.small_graph import ENVIRONMENT, build, with_ingest, write_weights, writer


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    base = write_weights(folder / "org/base", 1)
    write_weights(folder / "org/child", 2, parent=base)
    (folder / "bad").mkdir()
    (folder / "bad/model.safetensors").write_bytes(b"short")
    return folder


@pytest.fixture(scope="module")
def indexed(models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    path = tmp_path_factory.mktemp("indexed") / "graph"
    return path, call("index", models, graph=path)


def test_index_tells_what_it_did(indexed: tuple[Path, Result], models: Path) -> None:
    path, result = indexed
    assert result.exit_code == 0, result.output
    assert "3 seen: 2 new, 0 changed, 0 removed, 1 skipped" in result.stdout
    assert "skipped  truncated 1" in result.stdout
    assert "2 models, 1 tree, 1 edge" in result.stdout
    assert f"graph    {path}, generation 1" in result.stdout
    assert "reading models" in result.stderr
    assert {row["name"] for row in rows("models", graph=path)} == {"org/base", "org/child"}
    assert len(rows("edges", graph=path)) == 1


def test_identify(indexed: tuple[Path, Result], models: Path) -> None:
    found = answer("identify", models / "org/child", graph=indexed[0])
    assert found[0]["direction"] == "ancestor"
    assert {row["name"] for row in found} == {"org/base", "org/child"}
    assert "probability" in call("identify", models / "org/child/model.safetensors", graph=indexed[0]).stdout


def test_crawl_then_update(models: Path, tmp_path: Path) -> None:
    crawled = answer("crawl", models, graph=tmp_path)
    assert (crawled["command"], crawled["models_new"], crawled["edges"], crawled["generation"]) == ("crawl", 2, 0, 1)
    assert crawled["skipped_reasons"] == {"truncated": 1}
    assert "run `modelkin update`" in call("tree", "base", graph=tmp_path).stderr
    assert "run `modelkin update`" in call("tree", graph=tmp_path).stderr
    updated = answer("update", graph=tmp_path)
    assert (updated["source"], updated["edges"], updated["trees"]) == (None, 1, 1)
    again = answer("nightly", models, graph=tmp_path)
    assert (again["models_new"], again["bytes_read"], again["edges_added"]) == (0, 0, 0)
    assert [row["command"] for row in rows("runs", graph=tmp_path)] == ["crawl", "update", "nightly"]
    assert rows("runs", graph=tmp_path)[1]["mode"] == "default"
    (last,) = rows("runs", "--last", graph=tmp_path)
    assert (last["command"], last["touched"]) == ("nightly", [])
    assert "no tree was solved again" in call("runs", "--last", graph=tmp_path).stderr
    answer("update", "--weights-only", "--no-inferred", graph=tmp_path)
    (last,) = rows("runs", "--last", graph=tmp_path)
    assert last["touched"] == [{"root": "org/base", "members": 2, "arrived": 0, "gone": 0, "reason": "settings"}]
    assert call("runs", "--last", graph=tmp_path).stdout.split()[-5:] == ["org/base", "2", "0", "0", "settings"]


def test_a_run_goes_on_from_a_killed_one(models: Path, tmp_path: Path) -> None:
    source = f"folder:{models}"
    with writer(tmp_path, source):
        pass  # left without publishing, as a kill leaves it
    result = call("crawl", models, graph=tmp_path)
    assert "going on from the interrupted run 1" in result.stderr
    assert [row["status"] for row in rows("runs", graph=tmp_path)] == ["interrupted", "done"]


def test_a_hub_is_narrowed_and_whole(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_weights(tmp_path / "hub/bob/other", 5)
    write_weights(tmp_path / "hub/ada/child", 6, parent=write_weights(tmp_path / "hub/ada/base", 1))
    graph = tmp_path / "graph"
    with HubServer(tmp_path / "hub") as hub:
        first = answer("index", hub.url, "--author", "ada", graph=graph)
        assert (first["models_new"], first["edges"], first["source"]) == (2, 1, f"hub:{hub.url}")
        assert first["requests"] > 0
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        # Models of ada are not in this listing, and not gone for that.
        other = answer("crawl", "--search", "other", "--budget", "20000", graph=graph)
        assert (other["models_new"], other["models_removed"]) == (1, 0)
        shutil.rmtree(tmp_path / "hub/ada/child")
        last = answer("nightly", "--endpoint", hub.url, graph=graph)
        assert (last["models_new"], last["models_removed"], last["models"], last["edges"]) == (0, 1, 2, 0)


def test_two_runs_at_once(models: Path, tmp_path: Path) -> None:
    build(tmp_path)
    with writer(tmp_path):
        second = shell("index", models, "--graph", tmp_path)
        assert second.returncode == 1
        assert f"process {os.getpid()} is writing to this graph" in second.stderr
        assert second.stdout == ""
        assert shell("models", "--graph", tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("choice", "where", "endpoint"),
    [
        (SourceChoice("hub"), "hub", None),
        (SourceChoice("hub", endpoint="http://h.test"), "hub", "http://h.test"),
        (SourceChoice("hub:https://h.test/x"), "hub", "https://h.test/x"),
        (SourceChoice("https://h.test"), "hub", "https://h.test"),
        (SourceChoice("/"), "/", None),
    ],
)
def test_sources(choice: SourceChoice, where: str, endpoint: str | None) -> None:
    settled = choice.settled()
    assert (settled.where, settled.endpoint) == (where, endpoint)
    assert settled.settled() == settled


def test_sources_that_are_none() -> None:
    for choice in (
        SourceChoice("hub:nowhere"),
        SourceChoice("hub", endpoint="file:///etc"),
        SourceChoice("http://a.test", endpoint="http://b.test"),
        SourceChoice("/", limit=3),
    ):
        with pytest.raises(StopError):
            choice.settled()


def test_only_a_whole_listing_removes_models(tmp_path: Path) -> None:
    write_weights(tmp_path / "a")
    assert SourceChoice(str(tmp_path)).open()[1]
    assert SourceChoice("http://h.test").open()[1]
    source, complete = SourceChoice("http://h.test", author="org").open()
    assert (source.label, source.remote, complete) == ("hub:http://h.test", True, False)
    (tmp_path / "models--org--x/snapshots").mkdir(parents=True)
    assert SourceChoice(str(tmp_path)).open()[0].label == f"cache:{tmp_path}"


def test_json_is_all_that_standard_output_gets(models: Path, tmp_path: Path) -> None:
    script = with_ingest("progress.start('reading models', 1)\nprogress.note('a note')\nprogress.advance()")
    done = subprocess.run(
        [sys.executable, "-c", script, "index", str(models), "--json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**ENVIRONMENT, "MODELKIN_GRAPH": "here"},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["command"] == "index"
    assert (tmp_path / "here/CURRENT").exists()
    assert "reading models" in done.stderr
    missing = shell("explain", "nobody", "--json", "--graph", "here", cwd=tmp_path)
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr.startswith("error: no model nobody")


ENDLESS = with_ingest("""progress.start("reading models", None)
while True:
    progress.advance(1, "m")
    time.sleep(0.02)""")


def interrupted(words: list[str], sent: signal.Signals, awaited: str, cwd: Path) -> Iterator[Any]:
    """Run a command whose crawl never ends, send a signal when it says `awaited`; its status and its lines."""
    command = [sys.executable, "-c", ENDLESS, *words]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=cwd, env=ENVIRONMENT
    ) as process:
        assert process.stderr is not None
        lines: list[str] = []
        for line in process.stderr:
            if awaited in line and not any(awaited in before for before in lines):
                process.send_signal(sent)
            lines.append(line)
        yield process.wait(20)
        yield "".join(lines)


def test_ctrl_c_says_how_to_go_on(models: Path, tmp_path: Path) -> None:
    status, text = interrupted(
        ["index", str(models), "--graph", str(tmp_path)], signal.SIGINT, "reading models", tmp_path
    )
    assert status == 130
    assert "run the same command again and it goes on from there" in text
    assert "Traceback" not in text
    assert "interrupted run 1" in call("crawl", models, graph=tmp_path).stderr


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_schedule_stops_within_a_run(models: Path, tmp_path: Path, sent: signal.Signals) -> None:
    words = ["schedule", "--cron", "0 2 * * *", str(models), "--now", "--graph", str(tmp_path)]
    status, text = interrupted(words, sent, "reading models", tmp_path)
    assert status == 0
    assert "error: stopped within a run; the next one goes on from there" in text
    assert "Traceback" not in text
    assert (tmp_path / "building.duckdb").exists()
