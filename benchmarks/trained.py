"""Families of small networks that are really trained, and how much of their descent comes out of the weights.

    scripts/bench trained --seed 1 [--families mlp-adam lstm-adam ...] [--to DIR] [--json]

Each family is two trees (a root, three children, nine grandchildren; learning rates over a factor of ten, weight decay
from none to strong, some heads made anew, and an int8, a pruned and a bfloat16 copy as leaves), the checkpoints of
one run with a second stage, and a fan: a popular root with 24 children trained on like data, three of them with two
children each. Tasks are noisy prototypes of 16 x 16 that drift from parent to child. The constants of
`indexer.ancestry` and `indexer.cues` were fitted on families of this kind, drawn before this script was written: no
seed of it is data that the fit has seen.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(256, 256), nn.Linear(256, 256), nn.Linear(256, 128)
        self.out = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in (self.fc1, self.fc2, self.fc3):
            x = functional.relu(layer(x.flatten(1)))
        return self.out(x)  # type: ignore[no-any-return]


class CNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        widths = [1, 24, 48, 64]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.bns = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[1:])
        self.out = nn.Linear(widths[-1], 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv, bn in zip(self.convs, self.bns, strict=True):
            x = functional.max_pool2d(functional.relu(bn(conv(x))), 2)
        return self.out(x.mean((2, 3)))  # type: ignore[no-any-return]


class LSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(16, 96, 2, batch_first=True)
        self.out = nn.Linear(96, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.lstm(x.squeeze(1))[0][:, -1])  # type: ignore[no-any-return]


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(16, 64)
        self.position = nn.Parameter(torch.randn(1, 16, 64) * 0.02)
        layer = nn.TransformerEncoderLayer(64, 4, 256, 0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.out = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.encoder(self.embed(x.squeeze(1)) + self.position).mean(1))  # type: ignore[no-any-return]


FAMILIES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    f"{name}-{optimiser}": (make, optimiser)
    for name, make in (("mlp", MLP), ("cnn", CNN), ("lstm", LSTM), ("transformer", Transformer))
    for optimiser in ("adam", "sgd")
    if (name, optimiser) != ("lstm", "sgd")
}


class Task:
    """Ten noisy prototypes; a child's are partly its parent's."""

    def __init__(self, seed: int, parent: Task | None = None, kept: float = 0.0) -> None:
        fresh = torch.randn(10, 1, 16, 16, generator=torch.Generator().manual_seed(seed))
        fresh = functional.avg_pool2d(functional.pad(fresh, (1, 1, 1, 1), mode="circular"), 3, 1) * 2.2
        self.prototypes: torch.Tensor = fresh if parent is None else kept * parent.prototypes + (1 - kept) * fresh

    def batch(self, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        y = torch.randint(0, 10, (64,), generator=generator)
        x = self.prototypes[y] + 0.9 * torch.randn(64, 1, 16, 16, generator=generator)
        return torch.roll(x, int(torch.randint(-2, 3, (1,), generator=generator)), 3), y


def train(
    model: nn.Module, task: Task, steps: int, rate: float, decay: float, optimiser: str, seed: int, every: int = 0
) -> list[nn.Module]:
    """A trained copy, last; before it the checkpoints `every` so many steps."""
    model = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    parameters = model.parameters()
    step: torch.optim.Optimizer = (
        torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
        if optimiser == "adam"
        else torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=decay)
    )
    model.train()
    kept = []
    for t in range(1, steps + 1):
        x, y = task.batch(generator)
        step.zero_grad()
        functional.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
        step.step()
        if every and t % every == 0 and t < steps:
            kept.append(copy.deepcopy(model))
    return [*kept, model]


class Shelf:
    """Where the models of one family go, and who their parents are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parents: dict[str, str] = {}

    def put(self, name: str, model: nn.Module, parent: str | None, dtype: torch.dtype | None = None) -> None:
        target = self.folder / name
        target.mkdir(parents=True, exist_ok=True)
        state = {k: v.detach().clone().contiguous() for k, v in model.state_dict().items()}
        if dtype is not None:
            state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}
        save_file(state, target / "model.safetensors")
        if parent is not None:
            self.parents[name] = parent


def changed(model: nn.Module, change: Callable[[torch.Tensor], torch.Tensor]) -> nn.Module:
    """A copy with its matrices changed."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.copy_(change(parameter))
    return model


def int8(w: torch.Tensor) -> torch.Tensor:
    return (w / (w.abs().max() / 127)).round() * (w.abs().max() / 127)


def halved(w: torch.Tensor) -> torch.Tensor:
    return w * (w.abs() > w.abs().flatten().kthvalue(w.numel() // 2).values)


def make_family(name: str, seed: int, shelf: Shelf) -> None:
    make, optimiser = FAMILIES[name]
    draw = random.Random(f"{name} {seed}")
    rate = 1e-3 if optimiser == "adam" else 3e-2
    decays = (0.0, 0.0, 0.01, 0.1) if optimiser == "adam" else (0.0, 1e-4, 5e-3)

    def tune(parent: nn.Module, task: Task) -> nn.Module:
        start = copy.deepcopy(parent)
        if draw.random() < 0.3:
            start.out.reset_parameters()  # type: ignore[operator, union-attr]
        steps, tuned_rate = draw.choice((100, 200, 300)), rate * 10 ** draw.uniform(-1.2, -0.3)
        return train(start, task, steps, tuned_rate, draw.choice(decays), optimiser, draw.randrange(10**6))[-1]

    for tree in range(2):
        torch.manual_seed(draw.randrange(10**6))
        task = Task(draw.randrange(10**6))
        root = train(make(), task, 500, rate, decays[-2], optimiser, draw.randrange(10**6))[-1]
        shelf.put(f"t{tree}-root", root, None)
        shelf.put(f"t{tree}-root-bf16", root, f"t{tree}-root", torch.bfloat16)
        for c in range(3):
            child_task = Task(draw.randrange(10**6), task, 0.5)
            child = tune(root, child_task)
            shelf.put(f"t{tree}-c{c}", child, f"t{tree}-root")
            for g in range(3):
                grandchild = tune(child, Task(draw.randrange(10**6), child_task, draw.choice((0.0, 0.5))))
                shelf.put(f"t{tree}-c{c}-g{g}", grandchild, f"t{tree}-c{c}")
        shelf.put(f"t{tree}-c2-int8", changed(child, int8), f"t{tree}-c2")
        shelf.put(f"t{tree}-c2-pruned", changed(child, halved), f"t{tree}-c2")


def make_run(name: str, seed: int, shelf: Shelf) -> None:
    """Checkpoints of one run, and of a second stage on another task from its end."""
    make, optimiser = FAMILIES[name]
    draw = random.Random(f"{name} {seed} run")
    rate = 1e-3 if optimiser == "adam" else 3e-2
    torch.manual_seed(draw.randrange(10**6))
    decay = 1e-2 if optimiser == "adam" else 1e-4
    first = train(make(), Task(draw.randrange(10**6)), 1000, rate, decay, optimiser, seed, 125)
    second = train(first[-1], Task(draw.randrange(10**6)), 500, rate / 5, 0.0, optimiser, seed, 125)
    for at, model in enumerate([*first, *second]):
        shelf.put(f"e{at:02d}", model, f"e{at - 1:02d}" if at else None)


def make_fan(name: str, seed: int, shelf: Shelf) -> None:
    """A popular root: its children learn mostly the same, so that siblings end nearer to each other than to it."""
    make, optimiser = FAMILIES[name]
    draw = random.Random(f"{name} {seed} fan")
    rate = 1e-3 if optimiser == "adam" else 3e-2
    torch.manual_seed(draw.randrange(10**6))
    task = Task(draw.randrange(10**6))
    root = train(make(), task, 500, rate, 1e-2 if optimiser == "adam" else 1e-4, optimiser, seed)[-1]
    shelf.put("root", root, None)
    domain = Task(draw.randrange(10**6), task, 0.3)

    def tune(parent: nn.Module, own: Task) -> nn.Module:
        steps, tuned_rate = draw.choice((20, 60, 150)), rate * 10 ** draw.uniform(-1.2, -0.3)
        return train(parent, own, steps, tuned_rate, 0.0, optimiser, draw.randrange(10**6))[-1]

    for c in range(24):
        own = Task(draw.randrange(10**6), domain, 0.8)
        child = tune(root, own)
        shelf.put(f"c{c:02d}", child, "root")
        for g in range(2 if c % 8 == 0 else 0):
            grandchild = tune(child, Task(draw.randrange(10**6), own, 0.5))
            shelf.put(f"c{c:02d}-g{g}", grandchild, f"c{c:02d}")


def score(shelf: Shelf) -> dict[str, Any]:
    """Index the folder as a user would, and compare edges with the truth."""
    with tempfile.TemporaryDirectory() as graph:
        command = [sys.executable, "-m", "modelkin"]
        subprocess.run([*command, "index", str(shelf.folder), "--graph", graph], check=True, capture_output=True)
        edges = subprocess.run(
            [*command, "edges", "--json", "--graph", graph], check=True, capture_output=True, text=True
        ).stdout
    found = {edge["child"]: edge["parent"] for edge in map(json.loads, edges.splitlines())}
    directed = sum(found.get(child) == parent for child, parent in shelf.parents.items())
    either = sum(found.get(child) == parent or found.get(parent) == child for child, parent in shelf.parents.items())
    return {"truth_edges": len(shelf.parents), "directed": directed, "undirected": either}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench trained", description=__doc__)
    parser.add_argument("--families", nargs="+", choices=sorted(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--to", type=Path, help="keep the models here, with truth.csv")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.families:
            for kind, fill in (("trees", make_family), ("run", make_run), ("fan", make_fan)):
                begun = time.monotonic()
                shelf = Shelf((options.to or Path(scratch)) / f"{name}-{kind}")
                fill(name, options.seed, shelf)
                with (shelf.folder / "truth.csv").open("w", newline="") as file:
                    csv.writer(file).writerows([("child", "parent"), *sorted(shelf.parents.items())])
                row = {"family": name, "kind": kind, "seed": options.seed, **score(shelf)}
                results.append(row)
                if not options.json:
                    print(
                        f"{name:<18} {kind:<6} {row['directed']:>3} of {row['truth_edges']:>3} edges, "
                        f"direction included ({time.monotonic() - begun:.0f} s)",
                        flush=True,
                    )
    edges, right = (sum(row[key] for row in results) for key in ("truth_edges", "directed"))
    print(
        json.dumps(
            {
                "seed": options.seed,
                "truth_edges": edges,
                "directed_accuracy": round(right / edges, 4),
                "families": results,
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
