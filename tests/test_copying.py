"""A generation is copied by the kernel where it can, and byte by byte where it cannot."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from store.copying import copy_file


def fails(number: int) -> Callable[..., int]:
    def call(*_: int) -> int:
        raise OSError(number, os.strerror(number))

    return call


def few_bytes(read: int, written: int, count: int) -> int:
    return os.write(written, os.read(read, min(count, 1000)))


@pytest.mark.parametrize("size", [0, 1, 5000])
@pytest.mark.parametrize("call", [None, few_bytes, lambda *_: 0, fails(errno.EXDEV), fails(errno.ENOSYS)])
def test_a_copy_has_the_bytes(
    size: int, call: Callable[..., int] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").write_bytes(os.urandom(size))
    (tmp_path / "target").write_bytes(b"older and longer" * 1000)
    if call is not None:
        monkeypatch.setattr(os, "copy_file_range", call, raising=False)
    copy_file(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes()


def test_a_kernel_without_the_call_copies_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "copy_file_range", raising=False)
    (tmp_path / "source").write_bytes(b"bytes")
    copy_file(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"bytes"


def test_a_full_disk_is_no_reason_to_try_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "copy_file_range", fails(errno.ENOSPC), raising=False)
    (tmp_path / "source").write_bytes(b"bytes")
    with pytest.raises(OSError, match="No space left"):
        copy_file(tmp_path / "source", tmp_path / "target")
