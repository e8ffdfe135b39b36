"""The paper's tables and figures as they are shown: the page, what is to be read from it, pictures, the command."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks.accuracy import figure_panels, tables
from benchmarks.accuracy.__main__ import main
from benchmarks.accuracy.figures import Line, Panel, draw
from benchmarks.accuracy.table_captions import CAPTIONS
from benchmarks.accuracy.table_measurements import Ranks
from benchmarks.accuracy.table_pages import grid, markdown, summary
from benchmarks.accuracy.table_readings import READINGS, reading
from benchmarks.accuracy.table_rows import GRAPH, Row, as_json
from tests.toy_vthr import write_vthr


@pytest.fixture(scope="module")
def vthr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vthr(tmp_path_factory.mktemp("data"))


def test_tables_and_figures_of_a_toy(vthr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    folders = {path.name: path for path in sorted(vthr.iterdir())}
    results = tables.tabulate(folders, 1, Ranks())
    for out in (tmp_path / "a", tmp_path / "b"):
        tables.write(results, 1, out)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == [f"paper-fig{at}.svg" for at in (14, 19, 2, 3, 7)] + ["paper-tables.md"]
    for name in names:
        content = (tmp_path / "a" / name).read_bytes()
        assert content == (tmp_path / "b" / name).read_bytes()
        assert len(content) < 80_000
        assert b"<dc:date" not in content
    assert "bf16: not there" in capsys.readouterr().err
    page = (tmp_path / "a" / "paper-tables.md").read_text()
    assert "scripts/accuracy --mode paper --tables --seed 1 --out docs" in page
    assert page.count("**Reading.**") == len(CAPTIONS) == len(READINGS)
    found = {(row.table, row.split, row.tree, row.source, row.metric): row.value for row in results.rows}
    assert found["table 1", "lora-v", GRAPH, "weights", "directed l_lora"] == 1.0
    assert found["similar models", "seeds", GRAPH, "sketch", "siblings farther apart than from the parent"] == 1.0
    assert found["figure 3", "checkpoints", GRAPH, "weights", "fine-tuning falls"] == 1.0
    assert found["direction", "ft", GRAPH, "sketch", "score falls"] >= 0.9
    assert {row.table for row in results.rows} == set(CAPTIONS)
    shares_alone = [row for row in results.rows if row.table not in ("figure 2", "direction")]
    assert all(0 <= row.value <= 1 for row in shares_alone)
    assert {row.source for row in results.rows} == {"weights", "sketch"}


def test_the_command_prints_json_lines(
    vthr: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tables, "SPLITS", ("seeds",))
    data = str(vthr.parent.parent)
    for arguments in (["--tables"], ["--mode", "paper", "--tables"]):
        assert main([*arguments, "--data", data, "--json"]) == 0
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert {"table", "split", "tree", "source", "metric", "value"} <= set(rows[0])
        assert {row["source"] for row in rows} == {"weights", "sketch"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--tables", "--mode", "default"], "--tables goes without --mode default"),
        (["--tables", "--peers", "--sets", "published"], "--tables goes without --peers, --sets"),
        (["--out", "docs"], "--out is for --tables"),
    ],
)
def test_what_tables_would_leave_aside_is_refused(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert says in capsys.readouterr().err


def test_a_page_sets_sources_side_by_side() -> None:
    rows = [
        Row("similar models", "ft", GRAPH, "weights", "directed", 0.91, of=100, paper=0.9),
        Row("similar models", "ft", GRAPH, "sketch", "directed", 0.8, deviation=0.1, of=100, paper=0.9),
    ]
    header, cells = grid(rows)
    assert header == ["split", "metric", "of", "whole weights", "sketches", "cost", "paper"]
    assert cells == [["ft", "directed", "100", "0.91", "0.80 ± 0.10", "+0.11", "0.90"]]
    assert summary(rows)[1] == [["ft", "similar models: directed", *cells[0][2:]]]
    assert "| ft | directed | 100 |" in markdown(rows, 1, [])
    assert as_json(rows[0]) == {
        "table": "similar models", "split": "ft", "tree": GRAPH, "source": "weights", "metric": "directed",
        "value": 0.91, "of": 100, "paper": 0.9,
    }  # fmt: skip


def test_what_both_sources_give_is_one_line() -> None:
    def rows(sketch: float) -> list[Row]:
        return [
            Row("table 4", "ft", GRAPH, source, f"connected, {percent} %", value, paper=0.9)
            for source, value in (("weights", 0.5), ("sketch", sketch))
            for percent in (20, 40)
        ]

    header, cells = grid(rows(0.501))
    assert header == ["split", "metric", "from", "20 %", "40 %"]
    assert [line[2:] for line in cells] == [["both", "0.50", "0.50"], ["the paper", "0.90", "0.90"]]
    assert [line[2] for line in grid(rows(0.6))[1]] == ["whole weights", "sketches", "the paper"]


def test_readings_hold_the_numbers_of_their_rows() -> None:
    def both(
        table: str, tree: str, metric: str, weights: float, sketch: float, paper: float | None = None
    ) -> list[Row]:
        return [
            Row(table, "ft", tree, source, metric, value, paper=paper)
            for source, value in (("weights", weights), ("sketch", sketch))
        ]

    rows = both("table 1", GRAPH, "directed l_ft", 0.5, 0.25, 0.89) + both(
        "table 1", GRAPH, "undirected l_ft", 0.75, 0.75
    )
    assert reading("table 1", rows) == (
        "Here and in the paper: ft 0.50 (sketches 0.25), the paper 0.89. Directions aside: ft 0.75."
    )
    rows = [
        row
        for c, value in (("0.01", 0.9), ("0.1", 0.9), ("1", 0.2))
        for row in both("lambda", GRAPH, f"directed l_ft, c = {c}", value, 0.1)
    ]
    assert "ft 0.90 (sketches 0.10) at c = 0.1" in reading("lambda", rows)
    rows = [
        row
        for name, values in (("kurtosis", (0.0, 0.05)), ("mean", (0.0, 1.0)))
        for tree, value in zip("ab", values, strict=True)
        for row in both("figure 14", tree, f"{name} rises", value, value)
    ]
    assert reading("figure 14", rows).endswith("of the steps of each: kurtosis rises.")
    assert [name for name in CAPTIONS if reading(name, []) and name not in ("figure 14", "figure 19")] == []


def test_a_figure_has_its_lines_and_its_numbers(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    lines = [
        Line("kurtosis", [0, 1, 2], [1.0001, 1.0002, 1.0003], [1e-5, 1e-5, 1e-5]),
        Line("the same", [0, 1, 2], [1.0001, 1.0002, 1.0003], None, 0, faint=True),
    ]
    draw([Panel(name, "checkpoint", "score", lines) for name in "abcde"], tmp_path / "one.svg")
    text = (tmp_path / "one.svg").read_text()
    assert text.startswith("<?xml")
    assert text.count(">checkpoint<") == 5
    # Two rows of panels, each with its label.
    assert text.count(">score<") == 2
    # Coordinates are cut to two digits; what is written on an axis is not.
    written = re.findall(r"<text[^>]*>([^<]*)</text>", text)
    assert len({label for label in written if re.match(r"^[\d.]+$", label) and "." in label}) > 2
    assert figure_panels.figure_2([]) == []
