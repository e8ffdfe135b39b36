"""Trying again: how often, how long to wait in between, and what the other side asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from store.errors import RetryError

__all__ = ["Sleep", "asked_wait", "retrying"]

Sleep = Callable[[float], None]
Answer = TypeVar("Answer")

ATTEMPTS = 5
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 330.0
"""The Hub counts requests in windows of 300 s: a longer wait means something else, for the caller to see."""

# `RateLimit: "api";r=0;t=55`: nothing remains, and the window ends in 55 s.
_RATE_LIMIT = re.compile(r"\br\s*=\s*0\s*;\s*t\s*=\s*(\d{1,9})\b", re.ASCII)


def retrying(call: Callable[[], Answer], sleep: Sleep, attempts: int = ATTEMPTS) -> Answer:
    """What `call` returns, tried up to `attempts` times as long as it raises RetryError.

    Waits as long as the error asks for, else 1, 2, 4, ... seconds. Raises the last RetryError, at once when
    it asks for more than 330 s.
    """
    for attempt in range(1, attempts + 1):
        try:
            return call()
        except RetryError as error:
            wait = FIRST_WAIT_S * 2 ** (attempt - 1) if error.wait_s is None else error.wait_s
            if attempt == attempts or wait > LONGEST_WAIT_S:
                raise RetryError(f"{error} (attempt {attempt} of {attempts})", error.wait_s) from error
        sleep(wait)
    raise ValueError(f"expected at least one attempt, found {attempts}")


def asked_wait(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds an answer asks us to wait, by `Retry-After` (seconds or a date) or `RateLimit`; else None.

    `headers` are looked up in lower case, `now` is aware.
    """
    asked = headers.get("retry-after", "").strip()
    if asked.isascii() and asked.isdigit():
        return float(asked[:9])
    if asked:
        try:
            until = parsedate_to_datetime(asked)
        except ValueError:
            return None
        until = until if until.tzinfo else until.replace(tzinfo=UTC)
        return max(0.0, (until - now).total_seconds())
    limit = _RATE_LIMIT.search(headers.get("ratelimit", ""))
    return float(limit[1]) if limit else None
