"""How fast a Hub may be asked: requests a window, requests at a time, and what the Hub itself says about either."""

from __future__ import annotations

import re
from bisect import insort
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Condition
from typing import Final

from crawl.retry import LONGEST_WAIT_S, Sleep, asked_of, rate_limits
from store.errors import RetryError

__all__ = ["Pace", "Turn", "bucket_of", "published_limits"]

WINDOW_S: Final = 300.0
SHARE: Final = 0.9
"""Of a limit that is used: others may ask from the same address."""
FIRST_AT_ONCE: Final = 4.0
MOST_AT_ONCE: Final = 32

_POLICY: Final = re.compile(r"\bq\s*=\s*(\d{1,9})\s*;\s*w\s*=\s*(\d{1,9})\b", re.ASCII)
_PUBLISHED: Final = {False: {"api": 500, "resolvers": 3000}, True: {"api": 1000, "resolvers": 5000}}


def bucket_of(path: str) -> str:
    """Which of the Hub's limits a request counts against, by the path of its address."""
    return "api" if path.startswith("/api/") else "resolvers"


def published_limits(host: str, with_token: bool) -> dict[str, int]:
    """Requests by bucket in 300 s that huggingface.co lets free accounts, or nobody in particular, have.

    From https://huggingface.co/docs/hub/rate-limits. Empty for any other host, whose limits are its own.
    """
    return dict(_PUBLISHED[with_token]) if host == "huggingface.co" else {}


class Turn:
    """One request: `good` until it is told otherwise."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.good = True


class Pace:
    """Lets requests through one by one. Safe to share between threads.

    In each window of 300 s at most nine tenths of `limits` (requests by bucket) are let through; what the Hub says
    about its limits (`RateLimit`, `RateLimit-Policy`, `Retry-After`) takes their place and holds for all threads.
    At a time at most `at_once` are: one more with every round of answers, half as many when the Hub is overwhelmed.
    `sleep` takes seconds, `clock` gives monotonic seconds.
    """

    def __init__(self, limits: Mapping[str, int], sleep: Sleep, clock: Callable[[], float]) -> None:
        self.at_once = FIRST_AT_ONCE
        self._sleep, self._clock = sleep, clock
        self._limits = {bucket: (max(1, int(SHARE * limit)), WINDOW_S) for bucket, limit in limits.items()}
        self._starts: dict[str, list[float]] = defaultdict(list)
        self._held: dict[str, float] = {}
        self._left: dict[str, tuple[int, float]] = {}
        self._in_flight: dict[str, int] = defaultdict(int)
        self._epoch = 0
        self._free = Condition()

    @contextmanager
    def turn(self, bucket: str) -> Iterator[Turn]:
        """Wait until one more request of `bucket` may be made; it lasts as long as the context.

        Raises RetryError, and asks nothing, when the Hub said to wait for longer than 330 s, or its window is that long
        and spent.
        """
        wait = self._reserve(bucket)
        if wait > 0:
            self._sleep(wait)
        with self._free:
            while sum(self._in_flight.values()) >= int(self.at_once):
                self._free.wait()
            self._in_flight[bucket] += 1
            turn = Turn(self._epoch)
        try:
            yield turn
        finally:
            with self._free:
                self._in_flight[bucket] -= 1
                self._adapt(turn)
                self._free.notify_all()

    def heard(self, bucket: str, status: int, headers: Mapping[str, str], asked: float | None) -> None:
        """Note what an answer says of limits. `asked` is the wait in seconds that it asks for, if any."""
        now = self._clock()
        with self._free:
            policy = _POLICY.search(headers.get("ratelimit-policy", ""))
            if policy and int(policy[1]) and int(policy[2]):
                self._limits[bucket] = max(1, int(SHARE * int(policy[1]))), float(policy[2])
            told = asked_of(rate_limits(headers.get("ratelimit", "")), bucket)
            if told is not None:
                # Those on their way are not counted yet.
                self._left[bucket] = told[0] - self._in_flight[bucket] + 1, now + told[1]
            if status == 429 and asked is not None:
                self._held[bucket] = max(self._held.get(bucket, 0.0), now + asked)

    def _reserve(self, bucket: str) -> float:
        """Seconds until the next request may start, which is counted from now on."""
        with self._free:
            now = self._clock()
            start = max(now, self._held.get(bucket, now))
            left, until = self._left.get(bucket, (1, now))
            if until <= now:
                self._left.pop(bucket, None)
            elif left <= 0:
                start = max(start, until)
            else:
                self._left[bucket] = left - 1, until
            if start - now > LONGEST_WAIT_S:
                raise RetryError(f"the Hub asked for {start - now:.0f} s without requests", start - now)
            if bucket in self._limits:
                limit, window = self._limits[bucket]
                starts = self._starts[bucket]
                del starts[: next((at for at, when in enumerate(starts) if when > now - window), len(starts))]
                if len(starts) >= limit:
                    start = max(start, starts[-limit] + window)
                if window > LONGEST_WAIT_S and start - now > LONGEST_WAIT_S:
                    # A few requests a day, say: that is another night's, as a long Retry-After is.
                    raise RetryError(f"the Hub lets {limit} requests through in {window:.0f} s", start - now)
                insort(starts, start)
            return start - now

    def _adapt(self, turn: Turn) -> None:
        if turn.good:
            self.at_once = min(MOST_AT_ONCE, self.at_once + 1 / self.at_once)
        elif turn.epoch == self._epoch:
            # What was on its way together fails together: that is one sign, not several.
            self.at_once = max(1.0, self.at_once / 2)
            self._epoch += 1
