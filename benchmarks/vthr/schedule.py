"""Which work waits for which, the processes that do it, and how far it is."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import torch

from benchmarks.vthr.plans import OF_FT, VISION, plan, trees_of
from benchmarks.vthr.pretraining import CHECKPOINTS, WAYS, pretrain
from benchmarks.vthr.shelf import Node, fill, publish, write_state
from benchmarks.vthr.splits import Setting
from benchmarks.vthr.vit import State

Item = tuple[str, str]
PRETRAINING = "pretraining"
PRETRAINING_COST, LANGUAGE_COST = 2200.0, 2500.0
reports: Any = None


def receive(queue: Any) -> None:
    """A worker's start: one thread a process, and where it tells what it has done."""
    global reports
    reports = queue
    torch.set_num_threads(1)


def work(setting: Setting, item: Item) -> None:
    """Do one item: the pre-training of a root, one tree of a set, or a set of language models."""
    name, tree = item

    def log(message: str, share: float = 0.0) -> None:
        reports.put((item, share, message))

    def done(node: Node) -> None:
        reports.put((item, node.cost, ""))

    if name == PRETRAINING:
        if not setting.root(tree).exists():

            def keep(number: int, state: State) -> None:
                write_state(setting.checkpoint(tree, number), state)
                log("", cost(setting, item) / (CHECKPOINTS - 1) if number else 0.0)

            pretrain(tree, setting.seed, setting.scale, keep, log)
    elif name in VISION:
        fill(setting.to, plan(setting, name, tree), done)
    else:
        language_sets()[name](setting.to / name, setting.seed, log)


def language_sets() -> dict[str, Callable[[Path, int, Callable[[str], None]], None]]:
    """The sets of language models, where what they need is installed."""
    try:
        from benchmarks.vthr.minilm import SETS
    except ImportError:
        return {}
    return dict(SETS)


class Progress:
    """Lines on stderr: what was done, and when the rest will be."""

    def __init__(self, total: float) -> None:
        self.total, self.done, self.begun, self.said = total, 0.0, time.monotonic(), 0.0

    def add(self, item: Item, cost: float, message: str) -> None:
        self.done += cost
        now = time.monotonic()
        if message or now - self.said > 5:
            self.said = now
            spent = now - self.begun
            left = spent * (self.total - self.done) / self.done if self.done > 0 else float("nan")
            eta = f"{left / 60:.0f} min left" if left == left else "no estimate yet"
            share = f"{100 * self.done / self.total:3.0f} %"
            print(
                f"{share}  {spent / 60:5.1f} min  {eta:<16} {'/'.join(filter(None, item))} {message}", file=sys.stderr
            )


def cost(setting: Setting, item: Item) -> float:
    if item[0] == PRETRAINING:
        return PRETRAINING_COST * setting.scale
    if item[0] in VISION:
        return sum(node.cost for node in plan(setting, *item).present())
    return LANGUAGE_COST


def items_of(setting: Setting, names: Sequence[str], trees: Sequence[str]) -> dict[Item, set[Item]]:
    """The work in the order wanted, each with what it waits for. Sets that are complete are left out."""
    wanted: list[str] = []
    for name in names:
        wanted += ["ft", name] if name in OF_FT else [name]
    wanted = [name for name in dict.fromkeys(wanted) if not (setting.to / name / "truth.csv").exists()]
    work_items: dict[Item, set[Item]] = {}
    for name in wanted:
        if name not in VISION:
            work_items[name, ""] = set()
            continue
        for tree in trees_of(name, trees):
            if not setting.root(tree).exists():
                work_items[PRETRAINING, tree] = set()
            work_items[name, tree] = {(PRETRAINING, tree)} | ({("ft", tree)} if name in OF_FT else set())
    pretraining_first = sorted(work_items, key=lambda item: item[0] != PRETRAINING)
    return {item: {need for need in work_items[item] if need in work_items} for item in pretraining_first}


class Here(Executor):
    """Does the work at once, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def workers(jobs: int) -> tuple[Any, Executor]:
    """Who does the work, and the queue on which they tell of it."""
    if jobs == 1:
        here: SimpleQueue[object] = SimpleQueue()
        receive(here)
        return here, Here()
    context = multiprocessing.get_context("spawn")
    queue = context.Manager().Queue()
    return queue, ProcessPoolExecutor(jobs, context, receive, (queue,))


def run(setting: Setting, names: Sequence[str], trees: Sequence[str], jobs: int) -> None:
    """Make the sets wanted and all that they need; each set's truth is written as soon as its last tree is there."""
    waiting = items_of(setting, names, trees)
    unfinished = {name: {item for item in waiting if item[0] == name} for name, _ in waiting}
    progress = Progress(sum(cost(setting, item) for item in waiting))
    running: dict[Future[None], Item] = {}
    queue, executor = workers(jobs)
    with executor as pool:
        try:
            while waiting or running:
                open_items = [item for item, needs in waiting.items() if not needs]
                for item in open_items[: max(0, jobs - len(running))]:
                    del waiting[item]
                    running[pool.submit(work, setting, item)] = item
                finished = wait(running, 0.5, FIRST_COMPLETED).done
                drain(queue, progress)
                for future in finished:
                    item = running.pop(future)
                    future.result()
                    if item[0] not in (*VISION, PRETRAINING):
                        progress.add(item, cost(setting, item), "done")
                    for needs in waiting.values():
                        needs.discard(item)
                    unfinished[item[0]].discard(item)
                    if item[0] in VISION and not unfinished[item[0]]:
                        publish(
                            setting.to,
                            [plan(setting, item[0], tree) for tree in trees_of(item[0], trees)],
                            setting.seed,
                        )
                        progress.add((item[0], ""), 0, "complete")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    drain(queue, progress)


def drain(queue: Any, progress: Progress) -> None:
    while True:
        try:
            progress.add(*queue.get_nowait())
        except Empty:
            return


def all_trees(number: int) -> list[str]:
    return list(WAYS)[:number]
