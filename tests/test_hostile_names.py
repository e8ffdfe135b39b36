"""Names of tensors come from strangers: any that can be stored is understood, in a time that grows with its length."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import gguf
import numpy as np
import pytest

from crawl.architecture import architecture_key, canonical_names, role
from crawl.plan import make_plan, within_budget
from store.format import SketchFormat
from tests.entry_arrays import entries_of
from tests.runs import check_pair
from tests.weights import family, root, save

NAMES = {
    "digits that are no numbers": ["layers.².weight", "layers.³.weight", "1²2.①.weight", "²"],
    "digits of other scripts": ["layers.٣.weight", "layers.४.weight"],
    "parts of nothing": [".", "..", ".0.", "0.", ".0", "0", "...1.2.3..."],
    "a number of 1000 digits": ["layers." + "9" * 1000 + ".weight", "layers.1.weight"],
}


@pytest.mark.parametrize("case", NAMES)
def test_any_name_has_a_place(case: str) -> None:
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(NAMES[case], (200, 200))
    canonical = canonical_names(shapes)
    assert len(set(canonical.values())) == len(shapes)
    assert architecture_key({canonical[name]: shape for name, shape in shapes.items()})
    plan = make_plan(shapes, SketchFormat())
    assert sum(tensor.projection > 0 for tensor in plan.tensors.values()) == min(3, len(shapes))
    assert len(within_budget(dict.fromkeys(shapes, 1), shapes, 1)) == 1


def test_a_name_with_such_digits_costs_no_run(tmp_path: Path) -> None:
    family(tmp_path / "zoo", "good", 1)
    save(tmp_path / "zoo" / "odd", {name.replace(".0.", ".²."): weights for name, weights in root(9).items()})
    check_pair(tmp_path / "zoo", tmp_path / "graph", rows=0, live=frozenset({"odd"}))


def test_a_layer_that_is_no_number_has_no_heads(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_head_count([2, 2])
    writer.add_tensor("blk.².attn_q.weight", np.ones((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = entries_of(tmp_path / "m.gguf", "gguf")
    assert found.left_out == {"blk.².attn_q.weight": "bad_header"}


HOSTILE = {
    "numbers of 500 levels": [f"{at}{'.0' * 500}" for at in range(1000)],
    "stacks in stacks": [f"{'a.' * 480}{at}.w" for at in range(1000)],
    "embedded again and again": [f"{'embed' * 200}-{at}" for at in range(4000)],
    "many kinds and a deep one": [
        *(f"x{at}" for at in range(30_000)),
        *("".join(letters) for letters in itertools.product("abcdefghijklmnopqrst", repeat=3)),
    ],
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_names_cost_no_square(case: str) -> None:
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(HOSTILE[case], (2, 2))
    began = time.process_time()
    canonical = canonical_names(shapes)
    for name, shape in shapes.items():
        role(canonical[name], shape)
    within_budget(dict.fromkeys(shapes, 1), shapes, len(shapes) - 1)
    # A tenth of a second on a quiet machine, a minute where the time grew with the square.
    assert time.process_time() - began < 3
