"""Claims from model cards and configurations: what people write, and what else can stand there."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawl.claims import MAX_FRONT_MATTER, listed_claims, read_claims
from crawl.names import is_plain
from store.records import Claim

CARD = """---
base_model: meta-llama/Llama-2-7b-hf
base_model_relation: finetune
license: mit
library_name: transformers
pipeline_tag: text-generation
datasets:
- wikitext
- org/data
tags: [llama, 'base_model:finetune:meta-llama/Llama-2-7b-hf']
model-index:
- name: x
---
# A model

base_model: not-this-one
"""


def card(front_matter: str) -> tuple[tuple[str, str], ...]:
    claims = read_claims(f"---\n{front_matter}\n---\ntext", None)
    assert all(claim.stated_in == "README.md" for claim in claims)
    return tuple((claim.field, claim.value) for claim in claims)


def test_a_card_as_people_write_it() -> None:
    assert read_claims(CARD, '{"_name_or_path": "./llama", "model_type": "llama"}') == (
        Claim("base_model", "meta-llama/Llama-2-7b-hf", "README.md"),
        Claim("base_model_relation", "finetune", "README.md"),
        Claim("license", "mit", "README.md"),
        Claim("library_name", "transformers", "README.md"),
        Claim("pipeline_tag", "text-generation", "README.md"),
        Claim("datasets", "wikitext", "README.md"),
        Claim("datasets", "org/data", "README.md"),
        Claim("tags", "llama", "README.md"),
        Claim("tags", "base_model:finetune:meta-llama/Llama-2-7b-hf", "README.md"),
        Claim("name_or_path", "./llama", "config.json"),
    )


@pytest.mark.parametrize(
    ("front_matter", "expected"),
    [
        ("base_model: [a/b, c/d, a/b]", (("base_model", "a/b"), ("base_model", "c/d"))),
        ("license: no", (("license", "no"),)),
        ("license: 2024-13-45", (("license", "2024-13-45"),)),
        ("base_model:", ()),
        ("base_model: null", ()),
        ("base_model: ['', ~, {a: b}, [c], ok]", (("base_model", "ok"),)),
        ("base_model: {a: b}", ()),
        ('base_model: "a\\e[2Jb"', ()),
        ("base_model: !!python/object/apply:os.system ['true']", (("base_model", "true"),)),
        ("? [a]\n: b", ()),
        ("- a list", ()),
        ("text", ()),
        ("a: b: c", ()),
        ("x: &a [1]\nbase_model: *a", ()),
        ("<<: {base_model: a/b}", ()),
        ("base_model: '\x01'", ()),
        ("", ()),
    ],
)
def test_a_card_as_others_write_it(front_matter: str, expected: tuple[tuple[str, str], ...]) -> None:
    assert card(front_matter) == expected


@pytest.mark.parametrize(
    "readme",
    [None, "", "---", "---\n", "no front matter", "text\n---\nbase_model: a\n---\n", "---\nbase_model: a\n"],
)
def test_no_front_matter_claims_nothing(readme: str | None) -> None:
    assert read_claims(readme, None) == ()


def test_line_ends_and_a_byte_order_mark_do_not_matter() -> None:
    expected = (Claim("base_model", "a/b", "README.md"),)
    assert read_claims("\ufeff---\r\nbase_model: a/b\r\n---\r\nx", None) == expected
    assert read_claims("---\nbase_model: a/b\n---", None) == expected


def test_a_card_of_any_size_is_read_up_to_64_kib() -> None:
    assert card("license: mit\nx: " + "y" * 60_000) == (("license", "mit"),)
    assert card("license: mit\nx: " + "y" * MAX_FRONT_MATTER) == ()
    assert card("license: mit\nx: " + "é" * 40_000) == ()
    assert read_claims("---\nlicense: mit\n---\n" + "y" * 10**6, None) != ()


@pytest.mark.parametrize(
    "front_matter",
    [
        "[" * 30_000,
        "{a: " * 15_000,
        "- " * 30_000,
        "a: &a [x]\n" + "".join(f"b{n}: [*a, *a, *a]\n" for n in range(1000)),
        "? " * 30_000,
        "base_model: [" + "a," * 30_000 + "]",
        "!" * 60_000,
        '"' + "\\" * 60_000,
    ],
)
def test_hostile_yaml_costs_little(front_matter: str) -> None:
    before = time.process_time()
    assert len(card(front_matter)) <= 1
    assert time.process_time() - before < 20


def test_values_of_one_field_are_counted() -> None:
    assert len(card("tags: [" + ",".join(f"t{n}" for n in range(1000)) + "]")) == 256


@pytest.mark.parametrize(
    "config",
    [
        *(
            "",
            "{",
            "[]",
            "7",
            '{"_name_or_path": 7}',
            '{"_name_or_path": ""}',
            '{"_name_or_path": "a\\u0007b"}',
        ),
        *("[" * 100_000, '{"a": ' * 50_000, '{"_name_or_path": "\\ud800"}', '{"a": ' + "9" * 5000 + "}"),
    ],
)
def test_a_configuration_that_says_nothing(config: str) -> None:
    assert read_claims(None, config) == ()


@given(st.text(max_size=200), st.text(max_size=200))
def test_no_text_raises_or_claims_what_cannot_be_stored(front_matter: str, config: str) -> None:
    for claim in read_claims(f"---\n{front_matter}\n---", config):
        assert is_plain(claim.value)


YAML = st.text("abc:-[]{}&*!|>'\"%@`#?,\n \t~0", max_size=60)


@given(YAML)
def test_no_yaml_raises(front_matter: str) -> None:
    read_claims(f"---\nbase_model: {front_matter}\n---", None)


def test_tags_declare_a_base_where_the_card_does_not() -> None:
    tags = "tags: ['base_model:quantized:a/b', 'base_model:c/d', 'base_model:x', 'base_model:merge:e/f/g', base_model]"
    assert [claim for claim in card(tags) if claim[0] != "tags"] == [
        ("base_model_relation", "quantized"),
        ("base_model", "a/b"),
        ("base_model", "c/d"),
        ("base_model", "x"),
        ("base_model_relation", "merge"),
    ]
    assert [claim for claim in card(f"base_model: z/z\n{tags}") if claim[0] != "tags"] == [("base_model", "z/z")]


def test_an_adapters_configuration_names_its_base() -> None:
    def adapter(text: str) -> list[Claim]:
        return list(read_claims(None, None, text))

    assert adapter('{"base_model_name_or_path": "meta-llama/Llama-2-7b-hf", "r": 8}') == [
        Claim("base_model", "meta-llama/Llama-2-7b-hf", "adapter_config.json")
    ]
    for local in ("./llama", "/home/me/llama", "../llama", "C:\\\\llama", "a/b/c", ""):
        assert adapter(f'{{"base_model_name_or_path": "{local}"}}') == []
    assert adapter("[]") == adapter("{") == adapter('{"base_model_name_or_path": {"a/b": 1}}') == []


ROW = {
    "id": "ada/alpha",
    "author": "ada",
    "library_name": "transformers",
    "pipeline_tag": "text-generation",
    "tags": ["transformers", "llama", "base_model:a/b", "base_model:finetune:a/b", "region:us"],
    "cardData": {
        "license": "mit",
        "tags": ["llama"],
        "library_name": "transformers",
        "datasets": ["wikitext", 7, None],
    },
}


def test_a_row_of_a_list_claims_what_the_card_does_and_what_the_hub_adds() -> None:
    assert listed_claims(ROW) == (
        Claim("license", "mit", "README.md"),
        Claim("library_name", "transformers", "README.md"),
        Claim("datasets", "wikitext", "README.md"),
        Claim("tags", "llama", "README.md"),
        Claim("author", "ada", "hub"),
        Claim("pipeline_tag", "text-generation", "hub"),
        Claim("tags", "transformers", "hub"),
        Claim("tags", "base_model:a/b", "hub"),
        Claim("tags", "base_model:finetune:a/b", "hub"),
        Claim("tags", "region:us", "hub"),
        Claim("base_model", "a/b", "hub"),
        Claim("base_model_relation", "finetune", "hub"),
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("base_model:a/b"),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*ROW, "base_model"]), inner, max_size=4)
    ),
)


@given(st.dictionaries(st.sampled_from(list(ROW)), JSON))
def test_no_row_raises_or_claims_what_cannot_be_stored(row: dict[str, object]) -> None:
    for claim in listed_claims(row):
        assert is_plain(claim.value)
