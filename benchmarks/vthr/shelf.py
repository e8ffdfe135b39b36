"""Where models are written, what they are called and what is known of each: files that appear whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from safetensors.torch import load_file, save

from benchmarks.vthr.vit import State

WEIGHTS = "model.safetensors"
# Every file bears one date, so that dates say nothing of who came first.
DATE = 1_700_000_000
HEADER = ("child", "parent", "relation", "stage", "tree", "coefficient")
Note = dict[str, object]
Parents = tuple[tuple[str, float | None], ...]


@dataclass(frozen=True)
class Node:
    """A model to be: `key` says its place in the tree and is seen by nobody outside.

    `make` gets the parents' states and gives the model's, with a note of how it was made; or the model lies at
    `source` already. An `absent` node is no model of the set: its children are orphans.
    """

    key: str
    relation: str = ""
    parents: Parents = ()
    make: Callable[[list[State]], tuple[State, Note]] | None = None
    source: Path | None = None
    stage: str = "specialization"
    cost: float = 2.0
    absent: bool = False


@dataclass(frozen=True)
class Plan:
    """The models of one tree of one set. `named` is the set whose names it uses (its own, but for a set of copies)."""

    set: str
    tree: str
    seed: int
    nodes: tuple[Node, ...]
    named: str = ""
    names: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        numbers = list(range(len(self.nodes)))
        random.Random(f"{self.seed} names {self.named or self.set} {self.tree}").shuffle(numbers)
        named = {node.key: f"{self.tree}/m{number:02d}" for node, number in zip(self.nodes, numbers, strict=True)}
        object.__setattr__(self, "names", named)

    def present(self) -> list[Node]:
        return [node for node in self.nodes if not node.absent]

    def path(self, to: Path, key: str) -> Path:
        return to / self.set / self.names[key] / WEIGHTS

    def parent_names(self, node: Node) -> list[str]:
        """The parents as truth.csv writes them; a parent that is no model of the set is `missing:NAME`."""
        absent = {other.key for other in self.nodes if other.absent}
        return [f"{'missing:' if key in absent else ''}{self.names[key]}" for key, _ in node.parents]

    def rows(self) -> Iterable[tuple[object, ...]]:
        """The plan's lines of truth.csv: one for a model, or for each parent of a merge."""
        for node in self.present():
            name = self.names[node.key]
            if not node.parents:
                yield name, "", node.relation, node.stage, self.tree, ""
            for parent, (_, share) in zip(self.parent_names(node), node.parents, strict=True):
                yield name, parent, node.relation, node.stage, self.tree, "" if share is None else share


def write(path: Path, content: bytes) -> None:
    """Write a file under a temporary name and give it its own when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.part-{os.getpid()}")
    partial.write_bytes(content)
    os.utime(partial, (DATE, DATE))
    partial.replace(path)


def write_state(path: Path, state: State) -> None:
    write(path, save({name: tensor.contiguous() for name, tensor in state.items()}))


def read_state(path: Path) -> State:
    return load_file(path)


def link(source: Path, path: Path) -> None:
    """The same file once more: a hard link where the file system has them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.part-{os.getpid()}")
    partial.unlink(missing_ok=True)
    try:
        os.link(source, partial)
    except OSError:
        shutil.copyfile(source, partial)
        os.utime(partial, (DATE, DATE))
    partial.replace(path)


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write(path, text.getvalue().encode())


def note_path(to: Path, plan: Plan, key: str) -> Path:
    """Notes are kept out of the sets, which hold models and the truth alone."""
    return to / ".notes" / plan.set / f"{plan.names[key]}.json"


def fill(to: Path, plan: Plan, done: Callable[[Node], None]) -> None:
    """Make the plan's models that are not there yet, parents first; `done` hears of each."""
    for node in plan.present():
        path = plan.path(to, node.key)
        if not path.exists():
            if node.source is not None:
                link(node.source, path)
            else:
                assert node.make is not None, node.key
                state, note = node.make([read_state(plan.path(to, parent)) for parent, _ in node.parents])
                write(note_path(to, plan, node.key), json.dumps(note, sort_keys=True).encode())
                write_state(path, state)
        done(node)


def upload_order(plans: Sequence[Plan], seed: int) -> list[str]:
    """All models in an order in which they may have been published: parents before children, else by chance."""
    waiting = {
        plan.names[node.key]: {name for name in plan.parent_names(node) if not name.startswith("missing:")}
        for plan in plans
        for node in plan.present()
    }
    chance, order = random.Random(f"{seed} order {plans[0].set}"), []
    while waiting:
        name = chance.choice(sorted(name for name, parents in waiting.items() if not parents))
        del waiting[name]
        order.append(name)
        for parents in waiting.values():
            parents.discard(name)
    return order


def publish(to: Path, plans: Sequence[Plan], seed: int) -> None:
    """The set is complete: its upload order, then the truth, whose presence says so."""
    folder = to / plans[0].set
    order = upload_order(plans, seed)
    write_table(folder / "order.csv", ("model", "order"), ((name, at) for at, name in enumerate(order)))
    rows = [row for plan in plans for row in plan.rows()]
    write_table(folder / "truth.csv", HEADER, sorted(rows, key=first))


def first(row: Sequence[object]) -> str:
    return str(row[0])
