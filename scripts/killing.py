"""The slow proof that a kill harms nothing: runs killed by SIGKILL at random moments, the graph checked after each.

In rounds: models come and go in a folder, and `modelkin index` places them, or `modelkin crawl` and then `modelkin
update`. For each command an unbroken run on a copy of the graph says what must come out; runs on the graph itself are
killed over crawl, update and swap; then one may finish. After each kill the graph has to answer as before the command,
or as after it when the swap was done, and `modelkin check` has to find nothing wrong; after the last run nothing may be
left behind either. With --forked the runs are forks of one process that has loaded everything, which is many times
faster, and otherwise the same; with --large their trees are solved as those of thousands of models are, too. The last
line of the output is the result as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from crawl.folder import FolderSource
from crawl.source import ModelRef
from store.check import check_graph
from store.generation import GraphFolder, open_reader
from store.progress import SilentProgress
from tests.killable import KILLED, Killable
from tests.runs import Placed, answers, leftovers
from tests.weights import family

_KILLS_A_COMMAND: Final = 6
_PATIENCE: Final = 600.0
"""Seconds that one run may take."""
_SWAP: Final = 0.05
"""Seconds that a swap takes, about."""
_PHASES: Final = {"reading models": "crawl", "recovering Model Trees": "update"}


class BrokenGraphError(Exception):
    """The graph is not what it should be."""


class Proof:
    """A folder of models that changes, its graph, and what has been seen so far."""

    def __init__(self, folder: Path, pool: Path, chance: random.Random) -> None:
        self.source = folder / "source"
        self.graph = folder / "graph"
        self._unbroken = folder / "unbroken"
        self._said = folder / "said.txt"
        self._pool = pool
        self._names = [item.name for item in FolderSource(pool).models() if isinstance(item, ModelRef)]
        if not self._names:
            raise SystemExit(f"error: no models in {pool}")
        self._chance = chance
        self.counts: Counter[str] = Counter()
        self.source.mkdir()

    def round(self, deadline: float, kills: int) -> None:
        """One change of the source, and the commands that place it."""
        self._change(share=0.2 if self.counts["rounds"] else 0.7)
        source = str(self.source)
        for command in self._chance.choice(([["index", source]], [["crawl", source], ["update"]])):
            self._command(command, deadline, kills)
        self.counts["rounds"] += 1

    def _command(self, command: list[str], deadline: float, kills: int) -> None:
        """Some kills, and one run that may finish."""
        before = answers(self.graph) if GraphFolder(self.graph).current() else None
        old = open_reader(self.graph) if before is not None else None
        shutil.rmtree(self._unbroken, ignore_errors=True)
        if self.graph.exists():
            shutil.copytree(self.graph, self._unbroken, copy_function=_link_shards)
        took = self._run(command, self._unbroken)
        after = answers(self._unbroken)
        for _ in range(_KILLS_A_COMMAND):
            if time.monotonic() > deadline or self.counts["kills"] >= kills or not self._kill(command, took):
                break
            self._check(before, after)
        self._run(command, self.graph)
        self._expect(answers(self.graph) == after, "the run after the kills ended where an unbroken one does")
        self._expect(not leftovers(self.graph), f"nothing left behind; found {leftovers(self.graph)}")
        self._sound(notes=False)
        if old is not None and before is not None:
            (count,) = old.execute("select count(*) from live_models").fetchone() or (None,)
            self._expect(count == len(before), "a reader that opened the graph before still reads it")
            old.close()

    def _change(self, share: float) -> None:
        """Some models come that were not there, others go."""
        for name in self._chance.sample(self._names, max(1, round(share * len(self._names)))):
            target = self.source / name
            if target.exists():
                shutil.rmtree(target)
            else:
                shutil.copytree(self._pool / name, target, copy_function=_link)

    def _start(self, command: list[str], graph: Path) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "modelkin", *command, "--graph", str(graph), "--json"]
        with self._said.open("wb") as said:
            return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=said)

    def _run(self, command: list[str], graph: Path) -> float:
        """A run that is let alone; returns the seconds that it held the graph."""
        process = self._start(command, graph)
        begun = self._begun(process, graph)
        status = process.wait(_PATIENCE)
        self._expect(status == 0, f"a run that nobody disturbs succeeds; status {status}: {self._said.read_text()}")
        return time.monotonic() - begun

    def _begun(self, process: subprocess.Popen[bytes], graph: Path) -> float:
        """Wait until the run holds the graph: importing takes longer than many a crawl."""
        lock, own = graph / "LOCK", str(process.pid)
        while process.poll() is None and not (lock.exists() and lock.read_text().strip() == own):
            time.sleep(0.002)
        return time.monotonic()

    def _kill(self, command: list[str], took: float) -> bool:
        """Kill a run at a random moment of the time that it takes, or right when it swaps; False if it was done."""
        pointer = self.graph / "CURRENT.tmp"
        there = _stamp(pointer)
        process = self._start(command, self.graph)
        begun = self._begun(process, self.graph)
        if self._chance.random() < 0.25:
            while _stamp(pointer) in (there, None) and process.poll() is None:
                pass
        else:
            moment = begun + self._chance.uniform(0.0, 1.05 * took)
            while time.monotonic() < moment and process.poll() is None:
                time.sleep(0.001)
        process.kill()
        if process.wait() == 0:
            self.counts["finished"] += 1
            return False
        self.counts["kills"] += 1
        swapping = _stamp(pointer) != there
        self.counts[f"killed in {command[0]}: {'swap' if swapping else self._phase()}"] += 1
        return True

    def _phase(self) -> str:
        """What the killed run was at, by what it had said."""
        phase = "start"
        for line in self._said.read_text().splitlines():
            phase = _PHASES.get(line.partition(":")[0], phase)
        return phase

    def _check(self, before: dict[str, Placed] | None, after: dict[str, Placed]) -> None:
        if GraphFolder(self.graph).current() is None:
            self._expect(before is None, "the graph is still there")
            return
        found = answers(self.graph)
        if found == after and found != before:
            self.counts["swap was done"] += 1
        self._expect(found in (before, after), "the graph answers as before the run or as after it")
        self._sound(notes=True)

    def _sound(self, *, notes: bool) -> None:
        """What `modelkin check` says; `notes` allows for what the next run goes on from or removes."""
        wrong = [each for each in check_graph(self.graph, SilentProgress()).checks if each.state != "ok"]
        self._expect(all(notes and each.state == "note" for each in wrong), f"`modelkin check` is content; {wrong}")
        self.counts["times that modelkin check was content"] += 1

    def _expect(self, holds: bool, what: str) -> None:
        self.counts["checks"] += 1
        if not holds:
            raise BrokenGraphError(
                f"round {self.counts['rounds']}, after {self.counts['kills']} kills: expected that {what}"
            )


class ForkedProof(Proof):
    """The same with runs that are forks of a process that has loaded everything."""

    def __init__(self, folder: Path, pool: Path, chance: random.Random, killable: Killable) -> None:
        super().__init__(folder, pool, chance)
        self._killable = killable

    def _run(self, command: list[str], graph: Path) -> float:
        begun = time.monotonic()
        status, said = self._killable.run(self.source, graph, command=command[0], phases=True)
        self._expect(status == 0, f"a run that nobody disturbs succeeds; status {status}: {said}")
        return time.monotonic() - begun

    def _kill(self, command: list[str], took: float) -> bool:
        swap = self._chance.random() < 0.25
        seconds = self._chance.uniform(0.0001, _SWAP if swap else 1.05 * took)
        status, said = self._killable.run(
            self.source, self.graph, seconds=seconds, command=command[0], phases=True, swap=swap
        )
        if status == 0:
            self.counts["finished"] += 1
            return False
        self._expect(status == KILLED, f"a run ends well or is killed; status {status}: {said}")
        phase = said.splitlines()[-1] if said else "start"
        self.counts["kills"] += 1
        self.counts[f"killed in {command[0]}: {_PHASES.get(phase, phase)}"] += 1
        return True


def _stamp(path: Path) -> tuple[int, int] | None:
    """Tells one file from the next of the same name."""
    try:
        state = path.stat()
    except FileNotFoundError:
        return None
    return state.st_ino, state.st_mtime_ns


def _link(old: str, new: str) -> object:
    try:
        os.link(old, new)
    except OSError:
        return shutil.copy2(old, new)
    return new


def _link_shards(old: str, new: str) -> object:
    """Shards never change, so that one file serves both graphs; databases do."""
    return _link(old, new) if old.endswith(".parquet") else shutil.copy2(old, new)


def _go_on(proof: Proof, started: float, seconds: float, kills: int) -> str:
    """Rounds until the time is over or enough was killed; returns what was wrong, if anything."""
    try:
        while time.monotonic() < started + seconds and proof.counts["kills"] < kills:
            proof.round(started + seconds, kills)
            print(f"{time.monotonic() - started:6.0f} s", *(f"{k}: {v}" for k, v in proof.counts.items()), sep="  ")
            sys.stdout.flush()
    except BrokenGraphError as error:
        return str(error)
    return ""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/kill_test", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long to go on")
    parser.add_argument("--kills", type=int, default=1_000_000, help="stop after this many kills")
    parser.add_argument("--forked", action="store_true", help="fork the runs: many more kills a minute")
    parser.add_argument("--large", action="store_true", help="forked, and all trees as large ones")
    parser.add_argument(
        "--families", type=int, default=30, help="of ten models each (thirty with --large), where they are made"
    )
    parser.add_argument("--source", type=Path, help="a folder of models; small ones are made when it is left out")
    parser.add_argument("--seed", type=int, default=0, help="of the changes and the moments")
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="modelkin-kill-"))
    pool = options.source
    if pool is None:
        pool = folder / "pool"
        for at in range(options.families):
            family(pool, f"family-{at:02d}", at + 1, 9 if not options.large else 29)
    started = time.monotonic()
    chance = random.Random(options.seed)
    with ExitStack() as stack:
        if options.forked or options.large:
            killable = stack.enter_context(Killable(large=options.large))
            proof: Proof = ForkedProof(folder, pool, chance, killable)
        else:
            proof = Proof(folder, pool, chance)
        failure = _go_on(proof, started, options.seconds, options.kills)
    if failure:
        print(f"FAILED: {failure}; all files are in {folder}")
    else:
        shutil.rmtree(folder)
    result = {**proof.counts, "seconds": round(time.monotonic() - started, 1), "seed": options.seed, "failure": failure}
    print(json.dumps({key.replace(" ", "_"): value for key, value in result.items()}))
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main())
