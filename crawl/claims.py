"""What a model declares about itself: the YAML at the top of its README.md, and its config.json.

Both come from strangers and are read as text only: no aliases (a kilobyte of them unfolds to gigabytes), no
types beyond strings, nothing larger than a card has reason to be. What cannot be read claims nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml

from crawl.names import is_plain
from store.records import Claim

__all__ = ["read_claims"]

MAX_FRONT_MATTER = 64 * 2**10
MAX_CONFIG = 2**20
MAX_VALUES = 256
"""Values of one field: cards with thousands of tags are mistakes."""

_FIELDS = (
    *("base_model", "base_model_relation", "license", "license_name", "library_name", "pipeline_tag"),
    *("datasets", "tags"),
)
_NOTHING = frozenset({"", "~", "null", "none"})


class _TextLoader(yaml.BaseLoader):
    """YAML whose scalars stay text, and which refuses aliases."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("a card needs no aliases")
        return super().compose_node(parent, index)


def read_claims(readme: str | None, config: str | None) -> tuple[Claim, ...]:
    """The claims of a model card and of a configuration, in a fixed order, each once; never raises.

    From the card: base_model, base_model_relation, license, license_name, library_name, pipeline_tag,
    datasets and tags, one claim a value. From the configuration: `_name_or_path`, as field name_or_path: what
    the weights were loaded from when they were last saved: a base model, a folder, or the model itself.
    """
    card = _front_matter(readme or "")
    claims = [Claim(field, value, "README.md") for field in _FIELDS for value in _values(card.get(field))]
    claims += [Claim("name_or_path", value, "config.json") for value in _values(_name_or_path(config or ""))]
    return tuple(dict.fromkeys(claims))


def _front_matter(readme: str) -> dict[Any, Any]:
    text = readme.removeprefix("\ufeff")
    # Only as much as may count is looked at.
    lines = text[: MAX_FRONT_MATTER + 16].splitlines()
    if not lines or lines[0].rstrip() != "---":
        return {}
    try:
        end = next(number for number, line in enumerate(lines) if number and line.rstrip() == "---")
    except StopIteration:
        return {}
    block = "\n".join(lines[1:end])
    if len(block.encode("utf-8", "replace")) > MAX_FRONT_MATTER:
        return {}
    try:
        card = yaml.load(block, Loader=_TextLoader)
    except (yaml.YAMLError, ValueError, RecursionError, TypeError):
        return {}
    return card if isinstance(card, dict) else {}


def _name_or_path(config: str) -> object:
    if len(config) > MAX_CONFIG:
        return None
    try:
        found = json.loads(config)
    except (ValueError, RecursionError):
        return None
    return found.get("_name_or_path") if isinstance(found, dict) else None


def _values(value: object) -> Iterator[str]:
    """The strings of a field that holds one or a list of them; what else it holds is passed over."""
    for item in (value if isinstance(value, list) else [value])[:MAX_VALUES]:
        text = item.strip() if isinstance(item, str) else ""
        if text.lower() not in _NOTHING and is_plain(text):
            yield text
