"""How fast a model becomes a sketch: one core, bfloat16, 4096 x 4096 tensors, beside reading and the naive way.

    scripts/bench sketch [--tensors N] [--json]

Every figure is the median over rounds; the rounds take turns, so that a slow spell of the machine hits all alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from safetensors.torch import save_file
from scipy import stats

from crawl.folder import FolderSource
from crawl.model_sketch import sketch_model
from crawl.source import ModelRef
from store.format import SketchFormat
from store.shards import write_shard

_SIDE = 4096


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench sketch", description=__doc__)
    parser.add_argument("--tensors", type=int, default=28, help="4096 x 4096 bfloat16 tensors (33.5 MB each)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)

    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model" / "model.safetensors"
        path.parent.mkdir()
        _write(path, options.tensors)
        source = FolderSource(Path(folder))
        ref = next(item for item in source.models() if isinstance(item, ModelRef))
        sketched = sketch_model(source, ref, budget=0).model
        shard = Path(folder) / "shard.parquet"
        size = write_shard(shard, [(1, sketched.sketches)], SketchFormat())
        one = torch.randn(_SIDE, _SIDE, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)

        def naive() -> None:
            # What one would write first: scipy's kurtosis and torch's topk over the whole tensor.
            stats.kurtosis(one.float().numpy(), axis=None, fisher=False)
            torch.topk(one.float().abs().reshape(-1), 64)

        seconds = _rounds(
            options.rounds,
            {
                "sketch": lambda: sketch_model(source, ref, budget=0),
                "read": lambda: _read_and_range(path),
                "naive": naive,
            },
        )
    gb = options.tensors * _SIDE * _SIDE * 2 / 1e9
    per_naive = _SIDE * _SIDE * 2 / 1e9
    result = {
        "gb_per_s": round(gb / seconds["sketch"], 3),
        "read_gb_per_s": round(gb / seconds["read"], 3),
        "naive_ratio": round((gb / seconds["sketch"]) / (per_naive / seconds["naive"]), 1),
        "sketch_kb_per_model": round(size / 1024, 1),
    }
    if not options.json:
        print(f"{options.tensors} tensors of {_SIDE} x {_SIDE} bfloat16, {gb:.2f} GB, one core")
        print(f"sketch       {result['gb_per_s']:>8} GB/s")
        print(f"read, range  {result['read_gb_per_s']:>8} GB/s   (the same file, minimum and maximum)")
        print(f"naive        {per_naive / seconds['naive']:>8.3f} GB/s   (kurtosis and topk on whole tensors)")
        print(f"ratio        {result['naive_ratio']:>8} x the naive way")
        print(f"size         {result['sketch_kb_per_model']:>8} KB a model")
    print(json.dumps(result))
    return 0


def _write(path: Path, tensors: int) -> None:
    import torch

    generator = torch.Generator().manual_seed(1)
    names = ("q_proj", "k_proj", "v_proj", "o_proj")
    save_file(
        {
            f"model.layers.{i // 4}.self_attn.{names[i % 4]}.weight": (
                torch.randn(_SIDE, _SIDE, generator=generator) * 0.02
            ).to(torch.bfloat16)
            for i in range(tensors)
        },
        path,
    )


def _read_and_range(path: Path) -> None:
    """A plain read of the file in large blocks, taking the minimum and maximum: what no pass can beat by much."""
    import torch

    buffer = bytearray(1 << 17)
    view = memoryview(buffer)
    block = torch.frombuffer(buffer, dtype=torch.bfloat16)
    with path.open("rb", buffering=0) as file:
        while file.readinto(view):
            torch.aminmax(block)


def _rounds(count: int, steps: dict[str, Callable[[], object]]) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for name, step in steps.items():
        if name != "naive":
            step()
    for _ in range(count):
        for name, step in steps.items():
            begun = time.perf_counter()
            step()
            taken[name].append(time.perf_counter() - begun)
    return {name: statistics.median(values) for name, values in taken.items()}


if __name__ == "__main__":
    np.seterr(all="ignore")
    sys.exit(main())
