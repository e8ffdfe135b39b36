"""Many readers and a second writer while runs publish: nobody sees half a graph, and nobody waits for long.

Readers, each a process, open the graph over and over and ask for all of its lineage, its sketches too. Meanwhile models
come and go, and runs of `modelkin index` place them; while each holds the graph a second one is started, which has to
be refused. What a reader has seen has to be what some run has published, whole. The last line of the output is the
result as JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from store.check import check_graph, sound
from store.generation import open_reader
from store.lock import is_held
from store.progress import SilentProgress
from tests.weights import family

__all__ = ["Seen", "crowd"]

_LOOK: Final = """
    select
        (select count(*) from live_models),
        (select count(*) from components where model_id > 0),
        (select count(distinct model_id) from sketches),
        (select count(*) from components c join current_edges e on e.child_id = c.model_id
         join components p on p.model_id = e.parent_id where c.path <> list_append(p.path, c.model_id)),
        (select bit_xor(hash(model, parent, relation, confidence, root)) from lineage)
"""
_PATIENCE: Final = 600.0
"""Seconds that one run may take."""

Look = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of it. Times are in seconds."""

    readers: int
    runs: int
    reads: int
    median: float
    longest: float
    """Of the times that a reader took to open the graph, ask and close it."""
    alone: float
    """The same with nobody else there."""
    states: int
    """Different states of the graph that readers saw."""
    refused: int
    """Second writers that were told to wait."""
    wrong: tuple[str, ...]


def look(graph: Path) -> Look:
    """What one reader sees."""
    with open_reader(graph) as connection:
        row = connection.execute(_LOOK).fetchone()
    assert row is not None
    return row


def _read(graph: Path, pause: float, talk: Connection) -> None:
    """A reader: look again and again until told to stop, then tell what was seen."""
    times: list[float] = []
    seen: set[Look] = set()
    errors: list[str] = []
    talk.send("ready")
    while not talk.poll(pause if times else 0):
        started = time.monotonic()
        try:
            seen.add(look(graph))
        except Exception as error:  # noqa: BLE001  (whatever it is, it is what we look for)
            errors.append(f"{type(error).__name__}: {error}")
        times.append(time.monotonic() - started)
    talk.send((times, seen, errors))


@contextmanager
def _readers(graph: Path, count: int, pause: float) -> Iterator[list[Connection]]:
    context = multiprocessing.get_context("forkserver")
    # Imported once, and a reader is a fork away.
    context.set_forkserver_preload([__name__])
    processes, talks = [], []
    try:
        for _ in range(count):
            mine, theirs = context.Pipe()
            process = context.Process(target=_read, args=(graph, pause, theirs), daemon=True)
            process.start()
            theirs.close()
            processes.append(process)
            talks.append(mine)
        for talk in talks:
            talk.recv()
        yield talks
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _index(source: Path, graph: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "modelkin", "index", str(source), "--graph", str(graph), "--json"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _run(source: Path, graph: Path, wrong: list[str]) -> bool:
    """One run, and a second one while it holds the graph; was that refused?"""
    first = _index(source, graph)
    while not is_held(graph) and first.poll() is None:
        time.sleep(0.002)
    second = _index(source, graph)
    _, said = second.communicate(timeout=_PATIENCE)
    refused = second.returncode == 1 and f"process {first.pid} is writing to this graph; wait until it is done" in said
    # It may have come so late that the first was done.
    if not refused and second.returncode != 0:
        wrong.append(f"the second writer ended with status {second.returncode}: {said}")
    _, said = first.communicate(timeout=_PATIENCE)
    if first.returncode != 0:
        wrong.append(f"a run ended with status {first.returncode}: {said}")
    return refused


def crowd(folder: Path, *, readers: int, runs: int, families: int, pause: float) -> Seen:
    """Let `readers` processes read, `pause` seconds between looks, while `runs` runs change the graph in `folder`."""
    source, graph = folder / "source", folder / "graph"
    for at in range(families):
        family(source, f"family-{at:02d}", at + 1, 9)
    wrong: list[str] = []
    _run(source, graph, wrong)
    published = {look(graph)}
    alone = []
    for _ in range(5):
        started = time.monotonic()
        look(graph)
        alone.append(time.monotonic() - started)
    refused = 0
    with _readers(graph, readers, pause) as talks:
        for at in range(runs):
            shutil.rmtree(source / f"family-{at % families:02d}", ignore_errors=True)
            family(source, f"late-{at:02d}", families + at + 1, 9)
            refused += _run(source, graph, wrong)
            published.add(look(graph))
        for talk in talks:
            talk.send("stop")
        told = [talk.recv() for talk in talks]
    times = sorted(each for taken, _, _ in told for each in taken)
    seen = {state for _, states, _ in told for state in states}
    wrong += [error for _, _, errors in told for error in errors]
    wrong += [f"a reader saw what no run has published: {state}" for state in seen - published]
    wrong += [f"half a graph: {s}" for s in seen if not (s[0] == s[1] == s[2] and s[3] == 0)]
    checks = check_graph(graph, SilentProgress()).checks
    if not sound(checks) or any(each.state == "note" for each in checks):
        wrong.append(f"`modelkin check` is not content: {checks}")
    middle = times[len(times) // 2]
    return Seen(readers, runs, len(times), middle, times[-1], sorted(alone)[2], len(seen), refused, tuple(wrong))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/crowd_test", description=__doc__)
    parser.add_argument("--readers", type=int, default=50)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--families", type=int, default=20, help="of ten models each")
    parser.add_argument("--pause", type=float, default=10.0, help="seconds between two looks of a reader")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="modelkin-crowd-") as folder:
        seen = crowd(Path(folder), **vars(options))
    print(json.dumps(asdict(seen)))
    return 1 if seen.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
