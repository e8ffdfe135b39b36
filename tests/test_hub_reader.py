"""Few requests and no byte too many: the reader of ranges, waiting, and what a status means."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from crawl.hub_http import problem_of
from crawl.hub_reader import HubReader
from crawl.retry import asked_wait, retrying
from store.errors import ModelkinError, RetryError, SkipError
from tests.hub_models import read, reason_of

NOW = datetime(2024, 1, 1, tzinfo=UTC)


class Recorded:
    """Ranges of bytes in memory, and which of them were asked for."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.asked: list[tuple[int, int]] = []
        self.bytes_received = 0

    def fetch(self, start: int, stop: int) -> bytearray:
        self.asked.append((start, stop))
        self.bytes_received += stop - start
        return bytearray(self.content[start:stop])


def test_a_reader_asks_for_the_head_once_and_then_ahead_of_who_reads_on() -> None:
    content = np.random.default_rng(0).bytes(3_000_000)
    ranges = Recorded(content)
    reader = HubReader("m", len(content), ranges, head=1000, chunk=1_000_000)
    assert read(reader, 0, 8) + read(reader, 8, 400) == content[:400]
    assert read(reader, 900, 1100) == content[900:1100]
    assert ranges.asked == [(0, 1000), (1000, 1100)]
    step = 1000
    for at in range(1100, 2_900_000, step):
        assert read(reader, at, at + step) == content[at : at + step]
    assert len(ranges.asked) < 10
    assert max(stop - start for start, stop in ranges.asked) == 1_000_000
    assert reader.bytes_read == ranges.bytes_received == sum(b - a for a, b in ranges.asked)
    assert read(reader, 10, 20) == content[10:20]
    assert reason_of(lambda: read(reader, 2_999_999, 3_000_001)) == "truncated"
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        read(reader, 0, 1)


def test_a_buffer_larger_than_a_chunk_is_filled_in_pieces() -> None:
    content = bytes(range(256)) * 100
    ranges = Recorded(content)
    with HubReader("m", len(content), ranges, head=10, chunk=4096) as reader:
        assert read(reader, 100, 20_000) == content[100:20_000]
        reader.prefetch(50, 6000)
        assert read(reader, 50, 6000) == content[50:6000]
        assert read(reader, 7000, 7001) + read(reader, 7001, 7002) == content[7000:7002]
    assert max(stop - start for start, stop in ranges.asked) == 4096
    assert ranges.asked[-4:] == [(50, 4146), (4146, 6000), (7000, 7001), (7001, 7002)]


def test_waiting_follows_what_was_asked() -> None:
    def asked(**headers: str) -> float | None:
        return asked_wait({name.replace("_", "-"): value for name, value in headers.items()}, NOW)

    assert asked() is None
    assert asked(retry_after="12") == 12
    assert asked(retry_after="Mon, 01 Jan 2024 00:01:00 GMT") == 60
    assert asked(retry_after="Mon, 01 Jan 2023 00:01:00 GMT") == 0
    assert asked(retry_after="soon") is None
    assert asked(ratelimit='"resolvers";r=0;t=55') == 55
    assert asked(ratelimit='"resolvers";r=10;t=55') is None


def test_a_wait_that_is_too_long_is_left_to_the_caller() -> None:
    slept: list[float] = []

    def call() -> None:
        raise RetryError("busy", 3600)

    with pytest.raises(RetryError) as caught:
        retrying(call, slept.append)
    assert caught.value.wait_s == 3600
    assert slept == []


@pytest.mark.parametrize(("status", "kind"), [(200, None), (206, None), (429, RetryError), (418, SkipError)])
def test_a_status_means_one_thing(status: int, kind: type[ModelkinError] | None) -> None:
    problem = problem_of(status, {}, "a/b", NOW)
    assert problem is None if kind is None else isinstance(problem, kind)
