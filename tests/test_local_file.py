"""Files of this machine that change, vanish or are no files while they are read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from crawl.local_file import LocalReader, open_below
from store.errors import SkipError


def local(path: Path) -> LocalReader:
    return open_below(str(path.parent), str(path), path.name)


def test_a_file_cut_short_while_open_is_told_and_kills_nothing(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(bytes(100_000))
    with local(path) as reader:
        os.truncate(path, 10)
        with pytest.raises(SkipError, match="found 10: the file ends at 10") as caught:
            reader.read_into(0, memoryview(bytearray(50_000)))
    assert caught.value.reason == "truncated"


def test_a_file_rewritten_while_open_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(bytes(100))
    with local(path) as reader:
        reader.read_into(0, memoryview(bytearray(10)))
        path.write_bytes(bytes(200))
        with pytest.raises(SkipError) as caught:
            reader.read_into(0, memoryview(bytearray(10)))
    assert caught.value.reason == "changed_while_reading"


def test_a_reader_counts_what_it_read_and_closes_once(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(range(100)))
    reader = local(path)
    reader.prefetch(0, 100)
    words = np.zeros(4, "<u2")
    reader.read_into(3, words.data)
    reader.read_into(100, memoryview(bytearray()))
    assert words.tobytes() == bytes(range(3, 11))
    assert reader.bytes_read == 8
    reader.close()
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        reader.read_into(0, memoryview(bytearray(1)))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "vanished"),
        (lambda path: path.mkdir(), "not_a_file"),
        (lambda path: os.mkfifo(path), "not_a_file"),
        (lambda path: path.symlink_to("/etc/passwd"), "link_outside_source"),
    ],
)
def test_what_is_no_regular_file_is_not_opened(tmp_path: Path, make: Callable[[Path], None], reason: str) -> None:
    make(tmp_path / "a")
    with pytest.raises(SkipError) as caught:
        local(tmp_path / "a")
    assert caught.value.reason == reason
