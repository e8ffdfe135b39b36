"""Requests to a Hub stay below its limits, in number and at a time, and below what it says itself."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawl.pace import Pace, bucket_of, published_limits
from store.errors import RetryError


class Clock:
    """Moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def make(clock: Clock, **limits: int) -> Pace:
    return Pace(limits, clock.sleep, clock)


def ask(pace: Pace, bucket: str = "api", good: bool = True) -> None:
    with pace.turn(bucket) as turn:
        turn.good = good


@given(st.integers(1, 30), st.lists(st.floats(0, 120, allow_nan=False), max_size=100))
def test_no_window_holds_more_than_nine_tenths_of_the_limit(limit: int, pauses: list[float]) -> None:
    clock = Clock()
    pace = make(clock, api=limit)
    starts = []
    for pause in pauses:
        clock.now += pause
        ask(pace)
        starts.append(clock.now)
        ask(pace, "resolvers")
    most = max(1, int(0.9 * limit))
    assert all(sum(start <= at < start + 299.99 for at in starts) <= most for start in starts)
    # Nobody waits who need not.
    assert len(pauses) > most or clock.slept == []


def test_limits_are_those_that_are_published() -> None:
    assert published_limits("huggingface.co", False) == {"api": 500, "resolvers": 3000}
    assert published_limits("huggingface.co", True) == {"api": 1000, "resolvers": 5000}
    assert published_limits("127.0.0.1", True) == {}
    assert bucket_of("/api/models/a/b") == "api"
    assert bucket_of("/a/b/resolve/main/x") == "resolvers"


def test_what_the_hub_says_takes_their_place() -> None:
    clock = Clock()
    pace = make(clock, api=500)
    pace.heard("api", 200, {"ratelimit-policy": '"fixed window";"api";q=20;w=60'}, None)
    for _ in range(19):
        ask(pace)
    assert clock.slept == [60.0]


@pytest.mark.parametrize("header", ['"api";r=3;t=40', '"pages";r=0;t=9, "api";r=3;t=40', "r=3;t=40"])
def test_a_window_that_is_nearly_spent_is_waited_out_before_the_hub_refuses(header: str) -> None:
    clock = Clock()
    pace = make(clock)
    with pace.turn("api"):
        pace.heard("api", 200, {"ratelimit": header}, None)
    for _ in range(3):
        ask(pace)
    assert clock.slept == []
    ask(pace, "resolvers")
    ask(pace)
    assert clock.slept == [40.0]
    ask(pace)
    assert clock.slept == [40.0]


def test_a_window_of_a_day_that_is_spent_is_not_slept_through() -> None:
    clock = Clock()
    pace = make(clock)
    pace.heard("api", 200, {"ratelimit-policy": '"fixed window";"api";q=3;w=86400'}, None)
    ask(pace)
    ask(pace)
    with pytest.raises(RetryError, match="2 requests through in 86400 s"):
        ask(pace)
    assert clock.slept == []
    clock.now += 86400
    ask(pace)


def test_one_refusal_holds_for_all() -> None:
    clock = Clock()
    pace = make(clock)
    pace.heard("api", 429, {}, 12.0)
    pace.heard("api", 503, {}, 99.0)
    ask(pace)
    assert clock.slept == [12.0]
    pace.heard("api", 429, {}, 3600.0)
    with pytest.raises(RetryError, match="3600 s") as caught:
        ask(pace)
    assert caught.value.wait_s == 3600
    ask(pace, "resolvers")


def test_requests_at_a_time_grow_by_one_a_round_and_halve_when_it_goes_wrong() -> None:
    pace = make(Clock())
    assert pace.at_once == 4
    for _ in range(5):
        ask(pace)
    assert 4.9 < pace.at_once < 5.3
    ask(pace, good=False)
    assert 2.4 < pace.at_once < 2.7
    for _ in range(3):
        ask(pace, good=False)
    assert pace.at_once == 1
    for _ in range(2000):
        ask(pace)
    assert pace.at_once == 32


def test_what_fails_together_halves_once() -> None:
    pace = make(Clock())
    turns = [pace.turn("api") for _ in range(4)]
    for turn in turns:
        turn.__enter__().good = False
    for turn in turns:
        turn.__exit__(None, None, None)
    assert pace.at_once == 2


def test_no_more_are_on_their_way_than_may_be() -> None:
    pace = make(Clock())
    inside, most = 0, 0
    lock, four = threading.Lock(), threading.Barrier(4)

    def work(first: bool) -> None:
        nonlocal inside, most
        with pace.turn("api") as turn:
            with lock:
                inside += 1
                most = max(most, inside)
            if first:
                four.wait(10)
            turn.good = False
            with lock:
                inside -= 1

    threads: list[Any] = [threading.Thread(target=work, args=(at < 4,)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 4
    assert int(pace.at_once) == 2
    after = [threading.Thread(target=work, args=(False,)) for _ in range(12)]
    most = 0
    for thread in after:
        thread.start()
    for thread in after:
        thread.join()
    assert most <= 2
