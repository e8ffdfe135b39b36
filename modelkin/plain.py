"""Texts from outside as they may be shown: no character in them commands a terminal or reorders a line."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final

__all__ = ["as_json", "plain"]

# Control characters (C0, DEL, C1), line and paragraph separators, marks that reorder text, lone surrogates.
_CLASS: Final = "\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_REFUSED: Final = re.compile(f"[{_CLASS}]")
_REFUSED_BUT_LINES: Final = re.compile(f"(?![\n\t])[{_CLASS}]")


def plain(text: str, *, lines: bool = False) -> str:
    """`text` with refused characters written as Python escapes; with `lines`, newlines and tabs stay."""
    return (_REFUSED_BUT_LINES if lines else _REFUSED).sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    return found.group().encode("unicode_escape", "backslashreplace").decode("ascii")


def as_json(value: Any) -> str:
    """One line of JSON for rows and reports: NaN and infinity become null, times ISO 8601, bytes hexadecimal.

    Refused characters are written as `\\uXXXX`, which reads back as the same text.
    """
    text = json.dumps(_prepared(value), ensure_ascii=False, allow_nan=False)
    return _REFUSED.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def _prepared(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _prepared(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _prepared(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_prepared(each) for each in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    return _scalar(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        # DuckDB gives 0.5 as a decimal; whoever reads JSON expects a number.
        return _prepared(float(value))
    if hasattr(value, "tolist"):
        # NumPy's scalars and arrays.
        return _prepared(value.tolist())
    return str(value)
