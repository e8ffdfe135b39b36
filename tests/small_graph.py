"""Small Model Graphs made by hand: models without weights, and edges as the test wants them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from textwrap import indent

import numpy as np
import pyarrow as pa
from safetensors.numpy import save_file

from store.edges import write_edges
from store.lineage import replace_components
from store.pairs import PAIRS, replace_pairs
from store.records import Claim, Edge, Evidence, Model, Skipped, TensorSketch
from store.writer import GraphWriter

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
"""For processes that run this checkout, installed or not, in any folder."""

WHEN = datetime(2024, 5, 28, 10, 0, tzinfo=UTC)

# org/base ─┬─ org/child ─── lab/grand
#           └─ org/child2
# org/alone
FAMILY = {
    "org/base": None,
    "org/child": "org/base",
    "org/child2": "org/base",
    "lab/grand": "org/child",
    "org/alone": None,
}


def sketch(name: str) -> TensorSketch:
    values = np.array([1.0, -1.0], np.float32)
    return TensorSketch(
        tensor="layers.0.weight",
        source_name="model.layers.0.weight",
        dtype="F32",
        shape=(2,),
        elements=2,
        covered=2,
        mean=0.0,
        sum_squares=2.0,
        m2=1.0,
        m3=0.0,
        m4=1.0,
        minimum=-1.0,
        maximum=1.0,
        zeros=0,
        content_hash=name.encode().ljust(16, b"\0")[:16],
        outlier_values=np.array([1.0]),
        outlier_positions=np.array([0]),
        samples=values.tobytes(),
        projection=np.array([], np.float32),
    )


def model(name: str, source: str = "folder:/models", revision: str = "r1", claims: Sequence[Claim] = ()) -> Model:
    return Model(
        name=name,
        revision=revision,
        source=source,
        architecture="a" * 16,
        dtype="F32",
        tensors=1,
        parameters=2,
        bytes_total=2_000_000,
        bytes_read=1_000_000,
        content_hash=name,
        created_at=WHEN,
        modified_at=None,
        sketches=(sketch(name),),
        claims=tuple(claims),
    )


def writer(path: Path, source: str | None = "folder:/models", command: str = "index") -> GraphWriter:
    return GraphWriter(path, command=command, source=source, version="0", clock=lambda: WHEN)


def build(
    path: Path,
    parents: Mapping[str, str | None] = FAMILY,
    *,
    claims: Mapping[str, str] | None = None,
    skipped: Sequence[Skipped] = (),
    source: str = "folder:/models",
    placed: bool = True,
) -> Path:
    """Add models (child -> parent) to the graph at `path` and publish it; returns `path`.

    Parents of any earlier call are replaced by what this call says; `placed` False stops before the update.
    """
    declared = claims or {}
    models = [
        model(name, source, claims=[Claim("base_model", declared[name], "README.md")] if name in declared else ())
        for name in parents
    ]
    with writer(path, source) as run:
        run.add(models, skipped, {"a" * 16: (("layers.0.weight", (2,), 2, "weight"),)})
        run.finish_run(models_seen=len(models), models_new=len(models), bytes_total=2, bytes_read=1)
        if placed:
            place(run, source, parents)
        run.publish()
    return path


def place(run: GraphWriter, source: str, parents: Mapping[str, str | None]) -> None:
    """Write edges, pairs and components as an update would."""
    c = run.connection
    ids: dict[str, int] = dict(
        c.execute("select name, model_id from live_models where source = ?", [source]).fetchall()
    )
    edges = [
        Edge(
            child_id=ids[child],
            parent_id=ids[parent],
            relation="finetune",
            distance=0.01,
            confidence=0.9,
            runner_up_id=ids.get("org/alone"),
            runner_up_confidence=0.05,
            evidence=(Evidence("kurtosis", 0.75, 1.5, "kurtosis grows in 3 of 4 layers"),),
        )
        for child, parent in parents.items()
        if parent is not None
    ]
    write_edges(c, run.run_id, edges, list(ids.values()))
    ends = [sorted((e.child_id, e.parent_id)) for e in edges]
    pairs = [dict(zip(PAIRS.names, (*pair, 0.01, 0.99, 1.0, 0.0, 8), strict=True)) for pair in ends]
    replace_pairs(c, pa.Table.from_pylist(pairs, PAIRS), list(ids.values()))
    replace_components(c, _trees(ids, parents), [])


def _trees(ids: Mapping[str, int], parents: Mapping[str, str | None]) -> list[tuple[Sequence[int], dict[int, int]]]:
    members: dict[str, list[str]] = {}
    for name in parents:
        root = name
        while (above := parents[root]) is not None:
            root = above
        members.setdefault(root, []).append(name)
    above_of = {ids[child]: ids[parent] for child, parent in parents.items() if parent is not None}
    return [
        ([ids[name] for name in names], {ids[n]: above_of[ids[n]] for n in names if ids[n] in above_of})
        for names in members.values()
    ]


def write_weights(folder: Path, seed: int = 0, parent: Path | None = None) -> Path:
    """A tiny model on disk, by itself or near `parent`; returns its folder."""
    rng = np.random.default_rng(seed)
    if parent is None:
        tensors = {f"layers.{i}.weight": rng.normal(0, 0.02, (48, 48)) for i in range(4)}
    else:
        from safetensors.numpy import load_file

        tensors = {
            name: values + rng.normal(0, 0.002, values.shape)
            for name, values in load_file(parent / "model.safetensors").items()
        }
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.astype(np.float32) for name, value in tensors.items()}, folder / "model.safetensors")
    return folder


def with_ingest(body: str) -> str:
    """A script that runs the command line with `body` as its ingest, and an update that does nothing.

    Neither numba nor the kernels are loaded: such a process is up in half a second.
    """
    return (
        "import sys, time, types\n"
        "counts = dict.fromkeys(('seen', 'new', 'changed', 'removed', 'skipped', 'bytes_total', 'bytes_read'), 0)\n"
        "done = types.SimpleNamespace(**counts, requests=0, seconds=0.0)\n"
        "changed = dict.fromkeys(('components_touched', 'edges_added', 'edges_closed'), 0)\n"
        "changed = types.SimpleNamespace(**changed, seconds=0.0, shortlist_recall=None)\n"
        f"def ingest(source, writer, *, budget, complete, progress):\n{indent(body, '    ')}\n    return done\n"
        "sys.modules['crawl.ingest'] = types.SimpleNamespace(ingest=ingest)\n"
        "sys.modules['indexer.update'] = types.SimpleNamespace(update=lambda writer, **options: changed)\n"
        "from modelkin.cli import main\n"
        "main()\n"
    )
