"""Questions on the command line: every command, what goes to which stream, how commands end."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from store.records import Skipped
from tests.calling import RUN, answer, call, rows, shell
from tests.small_graph import ENVIRONMENT, FAMILY, build


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    skipped = [Skipped("bad\x1b[2J", None, "model.bin", "file", "pickle", "refused")]
    return build(
        tmp_path_factory.mktemp("cli") / "graph", claims={"org/child": "org/base", "org/alone": "x/y"}, skipped=skipped
    )


def test_lines_of_descent(graph: Path) -> None:
    assert [(row["generation"], row["model"]) for row in answer("ancestors", "grand", graph=graph)] == [
        (1, "org/child"),
        (2, "org/base"),
    ]
    assert [row["model"] for row in answer("descendants", "org/base", graph=graph)] == [
        "org/child",
        "org/child2",
        "lab/grand",
    ]
    assert [row["model"] for row in answer("siblings", "org/child", graph=graph)] == ["org/child2"]
    assert answer("ancestors", "org/base", graph=graph) == []


def test_tables_are_aligned_and_whole_when_piped(graph: Path) -> None:
    assert call("ancestors", "grand", graph=graph).stdout.splitlines() == [
        "generation  model      relation  distance  confidence",
        "         1  org/child  finetune      0.01         0.9",
        "         2  org/base   finetune      0.01         0.9",
    ]
    empty = call("ancestors", "org/base", graph=graph)
    assert empty.stdout == ""
    assert empty.stderr == "org/base is the root of its tree\n"


def test_tree_of_a_model_and_all_trees(graph: Path) -> None:
    edge = "(finetune, distance 0.01, confidence 0.9)"
    expected = [
        "org/base  (4 models)",
        f"├── org/child  {edge}",
        f"│   └── lab/grand  {edge}",
        f"└── org/child2  {edge}",
    ]
    marked = [*expected[:2], expected[2] + "  <-", expected[3]]
    assert call("tree", "grand", graph=graph).stdout.splitlines() == marked
    assert call("tree", graph=graph).stdout.splitlines() == [*expected, "", "without relatives: org/alone"]
    assert call("tree", "--limit", "1", graph=graph).stdout.splitlines()[-3] == "└── ... and 1 more"
    nodes = answer("tree", "grand", graph=graph)["nodes"]
    assert [(node["model"], node["depth"]) for node in nodes][:2] == [("org/base", 0), ("org/child", 1)]
    assert [tree["root"] for tree in answer("tree", graph=graph)] == ["org/base", "org/alone"]


def test_explain(graph: Path) -> None:
    text = call("explain", "org/child", graph=graph).stdout
    assert "child of org/base (finetune)" in text
    assert "kurtosis grows in 3 of 4 layers" in text
    assert "README.md says: base org/base; weights say: confirmed" in text
    found = answer("explain", "org/child", graph=graph)
    assert found["evidence"][0]["cue"] == "kurtosis"
    assert found["runner_up"] == "org/alone"


def test_edges_are_json_lines(graph: Path) -> None:
    edges = rows("edges", graph=graph)
    assert {(edge["parent"], edge["child"]) for edge in edges} == {
        (parent, child) for child, parent in FAMILY.items() if parent
    }
    wanted = {"parent", "child", "relation", "distance", "confidence", "runner_up", "runner_up_confidence"}
    assert wanted <= set(edges[0])
    assert call("edges", graph=graph).stdout.startswith("parent ")


def test_models_runs_skipped_audit(graph: Path) -> None:
    assert [row["name"] for row in rows("models", graph=graph)] == sorted(FAMILY)
    assert rows("models", graph=graph)[0]["created_at"] == "2024-05-28T10:00:00+00:00"
    assert rows("runs", graph=graph)[0]["status"] == "done"
    assert [row["reason"] for row in rows("skipped", graph=graph)] == ["pickle"]
    assert rows("skipped", "--run", "2", graph=graph) == []
    assert [row["verdict"] for row in rows("audit", graph=graph)] == ["unknown base", "confirmed"]
    assert "1 confirmed" in call("audit", graph=graph).stderr
    for command in ("models", "runs", "skipped", "audit"):
        result = call(command, graph=graph)
        assert result.exit_code == 0
        assert len(result.stdout.splitlines()) >= 2


def test_names_from_outside_command_no_terminal(graph: Path) -> None:
    for words in (["skipped"], ["skipped", "--json"], ["sql", "from skipped"], ["sql", "--csv", "from skipped"]):
        result = call(*words, graph=graph)
        assert "bad" in result.stdout
        assert "\x1b" not in result.output
    assert rows("skipped", graph=graph)[0]["name"] == "bad\x1b[2J"


def test_sql_in_three_forms(graph: Path) -> None:
    query = "select name, 0.5 as half, 'nan'::double as odd, [1, 2] as list from models order by name limit 1"
    assert call("sql", query, graph=graph).stdout.splitlines() == [
        "name       half  odd  list",
        "lab/grand   0.5  nan  [1, 2]",
    ]
    assert rows("sql", query, graph=graph) == [{"name": "lab/grand", "half": 0.5, "odd": None, "list": [1, 2]}]
    assert call("sql", "--csv", query, graph=graph).stdout == 'name,half,odd,list\nlab/grand,0.5,nan,"[1, 2]"\n'
    piped = call("sql", "-", graph=graph, text="select count(*) as n from models")
    assert piped.stdout.split() == ["n", "5"]


BEGUN = """
import modelkin.graph
ask = modelkin.graph.ModelGraph.sql_rows
modelkin.graph.ModelGraph.sql_rows = lambda *given: (print("begun", flush=True), ask(*given))[1]
from modelkin.cli import main
main()
"""


def test_ctrl_c_ends_a_query(graph: Path) -> None:
    endless = "select count(*) from range(100000000000) r where sin(range) > 2"
    command = [sys.executable, "-c", BEGUN, "sql", endless, "--graph", str(graph)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            assert (process.communicate(timeout=20)[1], process.returncode) == ("", -signal.SIGINT)
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["ancestors", "nobody/x"], 1, "error: no model nobody/x"),
        (["tree", "org/chlid"], 1, "did you mean org/child"),
        (["sql", "selec"], 1, "syntax error"),
        (["sql", "select 1; select 2"], 1, "found 2"),
        (["sql", "select cast('x' as int)"], 1, "Could not convert"),
        (["sql", "--json", "--csv", "select 1"], 2, "--csv"),
        (["identify", "/nowhere"], 1, "found nothing"),
        (["index", "/nowhere"], 1, "expected a folder of models"),
        (["index"], 2, "SOURCE"),
        (["index", "--mode", "best", "x"], 2, "best"),
        (["index", "ftp:x", "--author", "a"], 1, "--author is for a Hub"),
        (["crawl", "https://me:secret@hub.test"], 1, "set HF_TOKEN"),
        (["schedule", "--cron", "0 2 * *"], 2, "expected 5 fields"),
        (["schedule", "--cron", "61 2 * * *"], 2, "61"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_errors_are_one_line_on_standard_error(graph: Path, words: list[str], status: int, says: str) -> None:
    result = call(*words, graph=graph)
    assert result.exit_code == status, result.output
    assert says in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert "secret" not in result.stderr


def test_no_graph(tmp_path: Path) -> None:
    for command in ("models", "update"):
        result = call(command, graph=tmp_path / "none")
        assert result.exit_code == 1
        assert "no graph here; make one with `modelkin index" in result.stderr
        assert not (tmp_path / "none").exists()


def test_a_bug_keeps_its_traceback(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(folder: object, as_of: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("modelkin.graph.open_generation", broken)
    assert isinstance(call("models", graph=graph).exception, ZeroDivisionError)


def test_help_and_version_are_quick() -> None:
    started = time.monotonic()
    assert "Commands:" in shell("--help").stdout
    # Far above what it takes (0.3 s), far below what importing DuckDB, NumPy and torch would.
    assert time.monotonic() - started < 3
    assert shell("--version").stdout.startswith("modelkin ")


def test_a_closed_pipe_is_quiet(graph: Path) -> None:
    command = f"{sys.executable} -m modelkin sql --json 'from range(200000)' --graph {graph} | head -1"
    script = ["bash", "-c", command + "; exit ${PIPESTATUS[0]}"]
    done = subprocess.run(script, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.stdout == '{"range": 0}\n'
    assert done.stderr == ""
    assert done.returncode == 141


def test_an_encoding_without_boxes(graph: Path) -> None:
    done = shell("tree", "--graph", graph, env={**ENVIRONMENT, "PYTHONIOENCODING": "ascii"})
    assert "|-- org/child" in done.stdout


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import modelkin", ("duckdb", "numpy", "torch", "typer")),
        ("from modelkin import ModelGraph", ("torch", "huggingface_hub", "faiss", "numba", "pandas", "networkx")),
        ("import modelkin.cli", ("duckdb", "numpy", "torch", "apscheduler", "rich.table")),
    ],
)
def test_imports_are_cheap(statement: str, absent: tuple[str, ...]) -> None:
    script = f"import sys; {statement}; print([m for m in {absent!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=ENVIRONMENT)
    assert done.stdout.strip() == "[]"


def on_terminal(columns: int, *words: str, graph: Path) -> list[str]:
    """What a command shows on a terminal of so many columns, without its colours."""
    leader, follower = pty.openpty()
    command = [*RUN, *words, "--graph", str(graph)]
    with subprocess.Popen(
        command, stdout=follower, stderr=follower, env={**ENVIRONMENT, "COLUMNS": str(columns), "TERM": "xterm"}
    ) as process:
        os.close(follower)
        shown = b""
        with suppress(OSError):
            while part := os.read(leader, 4096):
                shown += part
        os.close(leader)
        assert process.wait() == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).splitlines()


def test_tables_fit_the_terminal(graph: Path) -> None:
    wide = on_terminal(100, "sql", "select 1 as n, repeat('word ', 30) as text", graph=graph)
    assert wide[0].split() == ["n", "text"]
    assert len(wide) > 2
    assert all(len(line) <= 100 for line in wide)
    # Too narrow to fold one column: whole lines, which the terminal breaks.
    narrow = on_terminal(40, "ancestors", "grand", graph=graph)
    assert narrow[2] == "         2  org/base   finetune      0.01         0.9"
