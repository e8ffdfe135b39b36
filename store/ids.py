"""How ids are given to a statement."""

from typing import Final

__all__ = ["LISTED"]

LISTED: Final = "(select unnest(?::bigint[]))"
"""Ids given as one parameter: a hash join, where list_contains would go through the list for every row."""
