"""Which components all models of an architecture are, kept until these are solved: a run that is killed while it solves
them does not compare all models again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from indexer.memo import SOLVER_VERSION
from indexer.parts import Known

__all__ = ["forget_parts", "parts_again"]

LEAST: Final = 8_192
"""Models, of which it takes seconds to compare all."""
_DIGEST: Final = 32


def parts_again(path: Path, known: Known, find: Callable[[], list[list[int]]]) -> list[list[int]]:
    """What `find` says of these models: ids of the members of each component, by the least id of each.

    Of many it is kept beside the search vectors at `path`, and not asked if it was of the same models and those are
    there. Raises OSError when it cannot be written.
    """
    if len(known.ids) < LEAST:
        return find()
    told = _told(known)
    labels = _read(_kept(path), told, len(known.ids)) if path.exists() else None
    if labels is None:
        parts = find()
        _write(_kept(path), told, known, parts)
        return parts
    members: dict[int, list[int]] = defaultdict(list)
    for model, label in zip(known.ids.tolist(), labels.tolist(), strict=True):
        members[label].append(model)
    return list(members.values())


def forget_parts(path: Path) -> None:
    """They are solved."""
    _kept(path).unlink(missing_ok=True)


def _kept(path: Path) -> Path:
    # What no run goes on from is removed with other temporary files.
    return path.with_suffix(".parts.tmp")


def _told(known: Known) -> bytes:
    digest = blake3(f"modelkin parts, solver {SOLVER_VERSION}\n".encode())
    digest.update(known.ids.tobytes())
    digest.update(known.contents.tobytes())
    return digest.digest(_DIGEST)


def _read(path: Path, told: bytes, n: int) -> NDArray[np.int64] | None:
    """n labels; None where the file is not of these models, or damaged."""
    try:
        held = path.read_bytes()
    except OSError:
        return None
    labels = held[2 * _DIGEST :]
    if held[:_DIGEST] != told or held[_DIGEST : 2 * _DIGEST] != blake3(labels).digest(_DIGEST) or len(labels) != 8 * n:
        return None
    return np.frombuffer(labels, np.int64)


def _write(path: Path, told: bytes, known: Known, parts: Sequence[Sequence[int]]) -> None:
    labels = np.empty(len(known.ids), np.int64)
    for label, part in enumerate(parts):
        labels[np.searchsorted(known.ids, part)] = label
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_bytes(told + blake3(labels.tobytes()).digest(_DIGEST) + labels.tobytes())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
