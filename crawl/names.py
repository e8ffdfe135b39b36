"""Names that come from outside: which ones can be stored and shown, and how the others are written down."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["MAX_NAME", "escaped", "is_plain", "is_plain_path", "is_repo_name"]

MAX_NAME = 1024

# Marks that reorder the text around them: a name holding one can be shown as another name.
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# Control characters, lone surrogates (bytes that are not UTF-8), line and paragraph separators.
_REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
_REPO_NAME = re.compile(r"(?=.{1,96}\Z)(\w([\w.-]*\w)?/)?\w([\w.-]*\w)?(?<!\.git)", re.ASCII)


def _is_refused(character: str) -> bool:
    return unicodedata.category(character) in _REFUSED_CATEGORIES or character in _BIDI


def is_plain(name: str) -> bool:
    """True when `name` is 1 to 1024 characters of valid Unicode, none of them for control or reordering."""
    if not 0 < len(name) <= MAX_NAME:
        return False
    if name.isascii() and name.isprintable():
        return True
    return not any(_is_refused(character) for character in name)


def is_plain_path(path: str) -> bool:
    """True when `path` is plain, relative, with `/` only, and every part names something below its start."""
    return is_plain(path) and "\\" not in path and all(part not in ("", ".", "..") for part in path.split("/"))


def is_repo_name(name: str) -> bool:
    """True for `name` or `org/name` as a Hub allows it: no `..`, no `--`, not hidden, 96 characters."""
    return _REPO_NAME.fullmatch(name) is not None and ".." not in name and "--" not in name


def escaped(name: str) -> str:
    """`name` as it can be printed and stored: refused characters as Python escapes, at most 200 characters.

    Bytes that are not UTF-8 (read from a file system as lone surrogates) are shown as the bytes they are:
    `\\xff`.
    """
    shown = name if len(name) <= 200 else name[:199] + "…"
    return "".join(_escape(character) if _is_refused(character) else character for character in shown)


def _escape(character: str) -> str:
    point = ord(character)
    if 0xDC80 <= point <= 0xDCFF:
        return f"\\x{point - 0xDC00:02x}"
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")
