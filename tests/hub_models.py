"""Two models to serve, a source that is served them, and faults to serve instead."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from starlette.requests import Request
from starlette.responses import Response

from crawl.hub import HubSource
from crawl.source import FileRef, ModelRef, RangeReader
from scripts.hub_server import HubServer
from store.errors import SkipError


class Once:
    """Answers the first requests to a matching address with one of `answers` each, and then no more."""

    def __init__(self, part: str, *answers: Callable[[], Response]) -> None:
        self.part = part
        self.answers = list(answers)
        self.seen: list[Request] = []

    def __call__(self, request: Request) -> Response | None:
        if self.part not in request.url.path:
            return None
        self.seen.append(request)
        return self.answers.pop(0)() if self.answers else None


class Asked:
    """A HubSource over a server, and how long it was asked to sleep: its clock moves when it sleeps, and only then."""

    def __init__(self, hub: HubServer, token: str | None = "hf_test", timeout_s: float = 30.0) -> None:
        self.slept: list[float] = []
        self.hub = hub
        self.source = HubSource(
            hub.url, token, timeout_s=timeout_s, sleep=self.slept.append, clock=lambda: sum(self.slept)
        )

    def model(self, name: str = "ada/alpha") -> ModelRef:
        (found,) = [m for m in self.source.models() if isinstance(m, ModelRef) and m.name == name]
        return found

    def weights(self, model: ModelRef) -> FileRef:
        (file,) = [file for file in self.source.files(model) if file.path == "model.safetensors"]
        return file


def read(reader: RangeReader, start: int, stop: int) -> bytes:
    buffer = bytearray(stop - start)
    reader.read_into(start, memoryview(buffer))
    return bytes(buffer)


def reason_of(call: Callable[[], object]) -> str:
    with pytest.raises(SkipError) as caught:
        call()
    return caught.value.reason


def make_models(root: Path) -> Path:
    """Two models: one in one file of 1.2 MB, one in two shards, with cards."""
    rng = np.random.default_rng(0)
    alpha = root / "ada" / "alpha"
    alpha.mkdir(parents=True)
    save_file({"w": rng.normal(size=(300, 1000)).astype("f4")}, alpha / "model.safetensors")
    (alpha / "README.md").write_text("---\nbase_model: ada/origin\n---\nhello\n")
    beta = root / "bob" / "beta"
    beta.mkdir(parents=True)
    for shard in (1, 2):
        tensors = {f"w{shard}": np.full((4,), shard, "f4")}
        save_file(tensors, beta / f"model-{shard:05d}-of-00002.safetensors")
    weight_map = {f"w{shard}": f"model-{shard:05d}-of-00002.safetensors" for shard in (1, 2)}
    (beta / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return root
