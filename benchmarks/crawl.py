"""How few bytes tell the lineage of 7B models, and how many small models a second are crawled, from a Hub on loopback.

    scripts/bench crawl [--layers N] [--small N] [--budget BYTES] [--json]

Eight models of a 7B Llama's shape (13.5 GB each in bfloat16, in shards), whose bytes follow from seeds, so that they
take no disk: a base, four fine-tunes, fine-tunes of two of these, and a model trained apart. They are crawled over HTTP
under the budget, in a process of its own, and their trees are found from weights alone; then from all of their bytes,
which the same code reads without a network. `same_tree` says whether parents and relations are the same, `right` which
share of the true edges the budget found, `bytes_read` is everything that came over the network, lists and headers too.

Then small models (0.4 MB, one file), with no latency and, the first hundred, with 100 ms an answer. `models_per_s`
and `requests_per_model` are theirs; `models_per_cpu_s` counts the seconds of processor that the crawling process took,
which a busy machine changes less.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.remote.models import RING, large_family, large_truth, llama_shapes, small_family
from benchmarks.remote.server import serving
from benchmarks.remote.source import WholeSource
from benchmarks.scale.memory import in_own_process
from crawl.hub import HubSource
from crawl.ingest import IngestReport, ingest
from crawl.source import Source
from indexer.update import update
from modelkin.sources import DEFAULT_BUDGET
from store.generation import open_reader
from store.progress import SilentProgress
from store.writer import GraphWriter

LATE = 100
"""Small models of the step with latency."""
Edges = dict[str, tuple[str, str]]
"""Child -> (parent, relation)."""


@dataclass(frozen=True, slots=True)
class Crawl:
    """What one process did."""

    models: int
    skipped: int
    requests: int
    bytes_received: int
    bytes_total: int
    seconds: float
    cpu_s: float
    edges: Edges


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench crawl", description=__doc__)
    parser.add_argument("--layers", type=int, default=32, help="of the large models: 32 are 7B parameters, 13.5 GB")
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--small", type=int, default=500, help="small models")
    parser.add_argument("--budget", type=int, default=DEFAULT_BUDGET, help="bytes a model")
    parser.add_argument("--latency", type=float, default=0.1, help="seconds an answer waits, in the last step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    shapes = llama_shapes(options.layers, options.width, options.width * 43 // 16, 32_000)
    with tempfile.TemporaryDirectory(prefix="modelkin-bench-") as temporary:
        result = measure(Path(temporary), shapes, options)
    if not options.json:
        for name, value in result.items():
            print(f"{name:<24} {value}")
    print(json.dumps(result))
    return 0


def measure(folder: Path, shapes: dict[str, tuple[int, ...]], options: argparse.Namespace) -> dict[str, object]:
    """All figures of the JSON line."""
    with serving(large_family, shapes, options.seed) as hub:
        say("large models over HTTP")
        few, few_mb = in_own_process(over_http, hub.url, folder / "few", options.budget, True)
        sent = hub.counts()
    say(f"{few.models} models, {few.bytes_received / 1e6:.0f} MB in {few.seconds:.1f} s; now all of their bytes")
    whole, whole_mb = in_own_process(all_bytes, shapes, options.seed, folder / "whole")
    say(f"{whole.bytes_total / 1e9:.0f} GB in {whole.seconds:.0f} s; small models")
    truth = large_truth()
    with serving(small_family, options.small, options.seed) as hub:
        small, small_mb = in_own_process(over_http, hub.url, folder / "small", options.budget, False)
        hub.set(options.latency)
        late, _ = in_own_process(over_http, hub.url, folder / "late", options.budget, False, LATE)
    return {
        "bytes_read": few.bytes_received,
        "bytes_full": few.bytes_total,
        "share": round(few.bytes_received / few.bytes_total, 6),
        "same_tree": few.edges == whole.edges and few.skipped == whole.skipped == 0,
        "models_per_s": round(small.models / small.seconds, 1),
        "requests_per_model": round(small.requests / small.models, 2),
        "peak_mb": round(max(few_mb, small_mb), 1),
        "right": sum(few.edges.get(child, ("",))[0] == parent for child, parent in truth.items()) / len(truth),
        "bytes_sent": sent["bytes_sent"],
        "large_models": few.models,
        "large_s_per_model": round(few.seconds / few.models, 2),
        "large_requests_per_model": round(few.requests / few.models, 1),
        "whole_gb_per_s": round(whole.bytes_total / whole.seconds / 1e9, 2),
        "whole_peak_mb": round(whole_mb, 1),
        "small_models": small.models,
        "models_per_cpu_s": round(small.models / small.cpu_s, 1),
        "late_models_per_s": round(late.models / late.seconds, 1),
        "latency_s": options.latency,
    }


def over_http(url: str, graph: Path, budget: int, trees: bool, limit: int | None = None) -> Crawl:
    """Crawl the Hub at `url`, or the first `limit` models of it, into a new graph; find its trees if asked."""
    source = HubSource(url, token="hf_none", limit=limit)
    return _crawl(source, graph, budget, trees, source)


def all_bytes(shapes: dict[str, tuple[int, ...]], seed: int, graph: Path, ring: int = RING) -> Crawl:
    """Read all bytes of the large models, without a network."""
    return _crawl(WholeSource(large_family(shapes, seed, ring)), graph, 0, True)


def _crawl(source: Source, graph: Path, budget: int, trees: bool, hub: HubSource | None = None) -> Crawl:
    with GraphWriter(
        graph, command="index", source=source.label, version="bench", clock=lambda: datetime.now(UTC)
    ) as writer:
        begun, cpu = time.perf_counter(), time.process_time()
        report: IngestReport = ingest(source, writer, budget=budget, complete=True, progress=SilentProgress())
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
        if trees:
            update(writer, mode="default", progress=SilentProgress(), use_metadata=False)
        writer.publish()
    return Crawl(
        report.new,
        report.skipped,
        report.requests,
        hub.bytes_received if hub else report.bytes_read,
        report.bytes_total,
        seconds,
        cpu,
        _edges(graph),
    )


def _edges(graph: Path) -> Edges:
    with open_reader(graph) as connection:
        rows = connection.execute(
            """select c.name, p.name, relation from current_edges e
               join nodes c on c.node_id = e.child_id join nodes p on p.node_id = e.parent_id"""
        ).fetchall()
    return {child: (parent, relation) for child, parent, relation in rows}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
