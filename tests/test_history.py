"""What `--as-of` means: a run, or the last one that had finished by a date."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from store.errors import StopError
from store.history import AsOf, Ran, settle_run

DAY = datetime(2024, 5, 28, 12, tzinfo=UTC)
RUNS = [
    Ran(1, "done", datetime(2024, 5, 27, 2, 0, 1)),
    Ran(2, "interrupted", None),
    Ran(3, "done", datetime(2024, 5, 28, 2, 30)),
    Ran(4, "done", datetime(2024, 5, 28, 9)),
]


@pytest.mark.parametrize(
    ("asked", "run"),
    [
        (1, 1),
        ("3", 3),
        ("2024-05-27", 1),
        (date(2024, 5, 27), 1),
        ("2024-05-28", 4),
        ("2024-05-28T02:30", 3),
        ("2024-05-28 02:29:59", 1),
        ("2024-05-28T04:30+02:00", 3),
        (datetime(2024, 5, 28, 8, 59, tzinfo=UTC), 3),
        (datetime(2024, 5, 28, 1, tzinfo=timezone(timedelta(hours=-2))), 3),
        (datetime(2024, 5, 28, 12), 4),
    ],
)
def test_runs_and_dates(asked: AsOf, run: int) -> None:
    assert settle_run(RUNS, asked, DAY) == run


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (0, "no run 0 in this graph: its runs are 1 to 4, `modelkin runs` lists them"),
        ("5", "no run 5 in this graph: its runs are 1 to 4"),
        ("20240528", "a date is written as 2024-05-28"),
        (2, r"run 2 did not finish \(interrupted\), .*; run 3 went on"),
        ("2024-05-29", "2024-05-29 is yet to come: now it is 2024-05-28 12:00 UTC"),
        ("2024-05-28T12:01", "is yet to come"),
        (
            "2024-05-26",
            r"no run had finished by the end of 2024-05-26 \(UTC\): run 1, the first, did at 2024-05-27 02:00",
        ),
        ("2024-05-27T02:00", "no run had finished by 2024-05-27 02:00:00 UTC"),
        ("yesterday", "'yesterday' is neither a run nor a date: .*2024-05-28T14:30"),
        ("", "'' is neither"),
        ("-1", "'-1' is neither"),
    ],
)
def test_what_is_no_finished_run_is_told(asked: AsOf, says: str) -> None:
    with pytest.raises(StopError, match=says):
        settle_run(RUNS, asked, DAY)
    with pytest.raises(StopError, match=r"in this graph|has finished yet"):
        settle_run([], 1 if isinstance(asked, int) else "2024-05-27", DAY)
