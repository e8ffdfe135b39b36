"""Model files made by hand, and what a source says of them."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from crawl.names import is_plain
from crawl.shards import model_tensors
from crawl.source import ModelRef, SkippedModel, Source
from store.errors import SkipError


def weights(path: Path, *tensors: str) -> Path:
    """A safetensors file of tensors of two float32 each."""
    header = {
        name: {"dtype": "F32", "shape": [2], "data_offsets": [8 * i, 8 * i + 8]} for i, name in enumerate(tensors)
    }
    raw = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(8 * len(tensors)))
    return path


def index(path: Path, **placed: str) -> Path:
    path.write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    return path


def listed(source: Source) -> tuple[list[str], list[tuple[str, str]]]:
    """Names of the models, and (name, reason) of the rest."""
    items = list(source.models())
    models = [item.name for item in items if isinstance(item, ModelRef)]
    skipped = [(item.name, item.reason) for item in items if isinstance(item, SkippedModel)]
    for item in items:
        assert is_plain(item.name)
        assert isinstance(item, ModelRef) or is_plain(item.message)
    return models, skipped


def model(source: Source, name: str) -> ModelRef:
    (found,) = [item for item in source.models() if isinstance(item, ModelRef) and item.name == name]
    return found


def tensors(source: Source, name: str) -> list[tuple[str, str]]:
    return [(file.path, entry.name) for file, entry in model_tensors(source, model(source, name))]


def reason_of(call: Callable[[], object]) -> str:
    with pytest.raises(SkipError) as caught:
        call()
    assert is_plain(str(caught.value))
    return caught.value.reason


def declare(folder: Path, base: str | None) -> None:
    """Write the card, if it says something else than what lies there."""
    text = "" if base is None else f"---\nbase_model: {base}\n---\n"
    card = folder / "README.md"
    if not card.exists() or card.read_text() != text:
        card.write_text(text)
