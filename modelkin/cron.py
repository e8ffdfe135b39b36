"""Cron lines as cron reads them.

APScheduler numbers weekdays from Monday = 0, cron from Sunday = 0, and where both day and weekday are given cron
means either while APScheduler means both.
"""

from __future__ import annotations

import pickle
import re
from datetime import datetime
from typing import Any, Final

from store.errors import StopError

__all__ = ["BadCronError", "cron_trigger"]

_NAMES: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_PART: Final = re.compile(r"(?:\*|(\w+)(?:-(\w+))?)(?:/(\d+))?", re.ASCII)


class BadCronError(StopError):
    """The cron line is wrong."""


def cron_trigger(expression: str, now: datetime) -> Any:
    """An APScheduler trigger in local time for `minute hour day month weekday`. `now` is aware.

    Raises BadCronError when the expression is wrong or never comes true.
    """
    from apscheduler.triggers.combining import OrTrigger
    from apscheduler.triggers.cron import CronTrigger

    parts = expression.split()
    if len(parts) != 5:
        raise BadCronError(
            f'cron {expression!r}: expected 5 fields (minute hour day month weekday, as in "0 2 * * *"), '
            f"found {len(parts)}"
        )
    minute, hour, day, month, weekday = parts
    try:
        weekday = _weekdays(weekday)
        common = {"minute": minute, "hour": hour, "month": month}
        if day.startswith("*") or weekday == "*":
            trigger = CronTrigger(**common, day=day, day_of_week=weekday)
        else:
            trigger = OrTrigger([CronTrigger(**common, day=day), CronTrigger(**common, day_of_week=weekday)])
    except ValueError as error:
        raise BadCronError(f"cron {expression!r}: {error}") from error
    if trigger.get_next_fire_time(None, now) is None:
        raise BadCronError(f"cron {expression!r} never comes true")
    _check_zone(trigger)
    return trigger


def _weekdays(field: str) -> str:
    """The weekday field with names, each day by itself. Raises ValueError."""
    if field == "*":
        return field
    days: set[int] = set()
    for part in field.split(","):
        found = _PART.fullmatch(part)
        if found is None:
            raise ValueError(f"expected a weekday (0 to 7 or sun to sat), a range or a list, found {part!r}")
        first, last, step = found.groups()
        start = 0 if first is None else _weekday(first)
        end = _weekday(last) if last else (6 if first is None or step else start)
        if end == 0 and start > 0:
            end = 7
        if start > end or step == "0":
            raise ValueError(f"expected a range of weekdays that goes forward, found {part!r}")
        days.update(day % 7 for day in range(start, end + 1, int(step or 1)))
    return ",".join(_NAMES[day] for day in sorted(days))


def _weekday(text: str) -> int:
    if text.lower() in _NAMES:
        return _NAMES.index(text.lower())
    if text.isdigit() and int(text) <= 7:
        return int(text)
    raise ValueError(f"expected a weekday (0 to 7 or sun to sat), found {text!r}")


def _check_zone(trigger: Any) -> None:
    """The schedule is stored with its time zone, which must therefore have a name."""
    try:
        pickle.dumps(trigger)
    except (pickle.PicklingError, TypeError) as error:
        raise StopError("the time zone of this machine has no name; set TZ, as in TZ=Europe/Berlin") from error
