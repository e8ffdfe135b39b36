"""Trying again: how often, how long to wait in between, and what the other side asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from store.errors import RetryError

__all__ = ["Sleep", "asked_of", "asked_wait", "date_of", "rate_limits", "retrying"]

Sleep = Callable[[float], None]
Answer = TypeVar("Answer")

ATTEMPTS = 7
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 330.0
"""The Hub counts requests in windows of 300 s: a longer wait means something else, for the caller to see."""

# `RateLimit: "api";r=0;t=55`: nothing remains, and the window ends in 55 s.
_RATE_LIMIT = re.compile(r'(?:"([^"]{0,64})"\s*;\s*)?\br\s*=\s*(\d{1,9})\s*;\s*t\s*=\s*(\d{1,9})\b', re.ASCII)


def retrying(
    call: Callable[[], Answer], sleep: Sleep, attempts: int = ATTEMPTS, progress: Callable[[], int] = lambda: 0
) -> Answer:
    """What `call` returns, tried up to `attempts` times as long as it raises RetryError.

    Waits as long as the error asks for, else 1, 2, 4, ... seconds. Whenever `progress` has grown, attempts are
    counted anew. Raises the last RetryError, at once when it asks for more than 330 s.
    """
    if attempts < 1:
        raise ValueError(f"expected at least one attempt, found {attempts}")
    attempt, had = 0, progress()
    while True:
        attempt += 1
        try:
            return call()
        except RetryError as error:
            if progress() > had:
                attempt, had = 1, progress()
            wait = FIRST_WAIT_S * 2 ** (attempt - 1) if error.wait_s is None else error.wait_s
            if attempt == attempts or wait > LONGEST_WAIT_S:
                raise RetryError(f"{error} (attempt {attempt} of {attempts})", error.wait_s) from error
        sleep(wait)


def asked_wait(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds an answer asks us to wait, by `Retry-After` (seconds or a date) or `RateLimit`; else None.

    `headers` are looked up in lower case. A date is compared with the answer's own `Date`, else with `now` (aware):
    the two clocks may differ.
    """
    asked = headers.get("retry-after", "").strip()
    if asked.isascii() and asked.isdigit():
        return float(asked[:9])
    if asked:
        until = date_of(asked)
        return None if until is None else max(0.0, (until - (date_of(headers.get("date", "")) or now)).total_seconds())
    spent = [seconds for _, remaining, seconds in rate_limits(headers.get("ratelimit", "")) if remaining == 0]
    return float(spent[0]) if spent else None


def rate_limits(header: str) -> list[tuple[str, int, int]]:
    """(bucket or "", requests that remain, seconds until its window ends) of a `RateLimit` header."""
    return [(name, int(left), int(seconds)) for name, left, seconds in _RATE_LIMIT.findall(header)]


def asked_of(limits: Sequence[tuple[str, int, int]], bucket: str) -> tuple[int, int] | None:
    """(requests that remain, seconds) of this bucket; of the first where none bears its name."""
    own = [limit for limit in limits if limit[0] == bucket] or list(limits)
    return own[0][1:] if own else None


def date_of(text: str) -> datetime | None:
    """The moment that an HTTP date names, aware; None when it is no date."""
    try:
        when = parsedate_to_datetime(text)
        return when if when.tzinfo else when.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
