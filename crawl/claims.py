"""What a model declares about itself: the YAML at the top of its README.md, its config.json, an adapter's
configuration, and the row that a Hub's list has for it.

Both come from strangers and are read as text only: no aliases (a kilobyte of them unfolds to gigabytes), no
types beyond strings, nothing larger than a card has reason to be. What cannot be read claims nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from crawl.names import is_plain, is_repo_name
from store.records import Claim

__all__ = ["listed_claims", "read_claims"]

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


def read_claims(readme: str | None, config: str | None, adapter: str | None = None) -> tuple[Claim, ...]:
    """The claims of a model card and of configurations, in a fixed order, each once; never raises.

    From the card: base_model, base_model_relation, license, license_name, library_name, pipeline_tag,
    datasets and tags, one claim a value. From the configuration: `_name_or_path`, as field name_or_path: what
    the weights were loaded from when they were last saved: a base model, a folder, or the model itself. From that
    of an adapter (adapter_config.json): `base_model_name_or_path`, as field base_model where it can be a repository.
    Where the card names no base, but its tags do (`base_model:a/b`), they count.
    """
    card = _front_matter(readme or "")
    claims = [Claim(field, value, "README.md") for field in _FIELDS for value in _values(card.get(field))]
    claims += _tagged(claims, "README.md")
    claims += [Claim("name_or_path", value, "config.json") for value in _values(_entry(config, "_name_or_path"))]
    claims += [
        Claim("base_model", value, "adapter_config.json")
        for value in _values(_entry(adapter, "base_model_name_or_path"))
        if is_repo_name(value)
    ]
    return tuple(dict.fromkeys(claims))


def listed_claims(row: Mapping[str, Any]) -> tuple[Claim, ...]:
    """The claims in a row of a Hub's list, with the card's front matter as `cardData`; never raises.

    Those of the card are stated in README.md; what the Hub says itself (author, tags that it adds, library and
    pipeline that it finds out) in "hub", where the card does not say the same.
    """
    card = row.get("cardData")
    card = card if isinstance(card, dict) else {}
    claims = [Claim(field, value, "README.md") for field in _FIELDS for value in _values(card.get(field))]
    said = {(claim.field, claim.value) for claim in claims}
    for field in ("author", "library_name", "pipeline_tag", "tags"):
        claims += [Claim(field, value, "hub") for value in _values(row.get(field)) if (field, value) not in said]
    claims += _tagged(claims, "hub")
    return tuple(dict.fromkeys(claims))


_RELATIONS = frozenset({"finetune", "adapter", "quantized", "merge"})


def _tagged(claims: list[Claim], stated_in: str) -> list[Claim]:
    """Bases and relations in tags such as `base_model:a/b` and `base_model:finetune:a/b`, where no base is declared."""
    if any(claim.field == "base_model" for claim in claims):
        return []
    found = []
    for claim in claims:
        lead, _, base = claim.value.partition(":")
        if claim.field != "tags" or lead != "base_model":
            continue
        relation, colon, name = base.partition(":")
        if colon and relation in _RELATIONS:
            found.append(Claim("base_model_relation", relation, stated_in))
            base = name
        if is_repo_name(base):
            found.append(Claim("base_model", base, stated_in))
    return found


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


def _entry(config: str | None, name: str) -> object:
    """One entry of a configuration, which is JSON; None where there is none."""
    if not config or len(config) > MAX_CONFIG:
        return None
    try:
        found = json.loads(config)
    except (ValueError, RecursionError):
        return None
    return found.get(name) if isinstance(found, dict) else None


def _values(value: object) -> Iterator[str]:
    """The strings of a field that holds one or a list of them; what else it holds is passed over."""
    for item in (value if isinstance(value, list) else [value])[:MAX_VALUES]:
        text = item.strip() if isinstance(item, str) else ""
        if text.lower() not in _NOTHING and is_plain(text):
            yield text
