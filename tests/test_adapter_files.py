"""PEFT adapters: their updates under the base's names, and their place beside the trees."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from crawl.architecture import architecture_key, canonical_names
from crawl.folder import FolderSource
from crawl.model_sketch import sketch_model
from crawl.readers import Readers
from crawl.shards import model_weights
from indexer.adapter_merges import match_adapters
from store.dtypes import DTYPES
from store.errors import SkipError
from store.generation import open_reader
from tests.calling import rows
from tests.runs import index
from tests.source_files import declare, model

Array = NDArray[Any]
RANDOM = np.random.default_rng(0)


def floats(*shape: int) -> Array:
    return RANDOM.normal(0, 0.05, shape).astype(np.float32)


def adapter(folder: Path, tensors: dict[str, Array], **settings: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8, **settings}))


def read(root: Path, name: str) -> tuple[dict[str, Array], dict[str, str]]:
    """The updates of an adapter, and what was left out."""
    source = FolderSource(root)
    ref = model(source, name)
    readers = Readers(source, ref)
    left_out: dict[str, str] = {}
    try:
        found = model_weights(source, ref, None, lambda _, name, why: left_out.update({name: why.reason}), readers)
        assert found.adapter
        arrays: dict[str, Array] = {}
        for file, entry in found.tensors:
            raw = bytearray(entry.elements * DTYPES[entry.dtype].itemsize)
            entry.opened(readers, file)(0, memoryview(raw))
            arrays[entry.name] = np.frombuffer(raw, np.float32).reshape(entry.shape)
        return arrays, left_out
    finally:
        readers.close()


def lora(module: str, a: Array, b: Array) -> dict[str, Array]:
    return {f"base_model.model.{module}.lora_A.weight": a, f"base_model.model.{module}.lora_B.weight": b}


def test_an_update_is_b_times_a_scaled(tmp_path: Path) -> None:
    a, b, wide = floats(4, 30), floats(20, 4), floats(2, 30)
    adapter(
        tmp_path / "lora",
        {
            **lora("model.layers.0.self_attn.q_proj", a, b),
            **lora("model.layers.1.self_attn.q_proj", wide, b[:, :2].copy()),
            "base_model.model.lm_head.weight": floats(3, 3),
            "base_model.model.x.lora_A.weight": a,
        },
        alpha_pattern={"layers.1.self_attn.q_proj": 6},
    )
    found, left_out = read(tmp_path, "lora")
    assert set(found) == {"model.layers.0.self_attn.q_proj.weight", "model.layers.1.self_attn.q_proj.weight"}
    np.testing.assert_allclose(found["model.layers.0.self_attn.q_proj.weight"], 2 * b @ a, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(
        found["model.layers.1.self_attn.q_proj.weight"], 3 * b[:, :2] @ wide, rtol=1e-5, atol=1e-7
    )
    assert left_out == {"base_model.model.lm_head.weight": "not_an_update", "x.weight": "bad_adapter"}


def test_other_scales_and_orders(tmp_path: Path) -> None:
    a, b, conv = floats(4, 30), floats(20, 4), floats(4, 5, 3, 3)
    adapter(tmp_path / "rs", lora("m", a, b), use_rslora=True)
    np.testing.assert_allclose(read(tmp_path, "rs")[0]["m.weight"], 8 / math.sqrt(4) * b @ a, rtol=1e-5, atol=1e-7)
    adapter(tmp_path / "turned", lora("h.0.attn.c_attn", a, b), fan_in_fan_out=True)
    np.testing.assert_allclose(
        read(tmp_path, "turned")[0]["h.0.attn.c_attn.weight"], (2 * b @ a).T, rtol=1e-5, atol=1e-7
    )
    adapter(tmp_path / "conv", lora("c", conv, floats(20, 4)[:, :, None, None]))
    assert read(tmp_path, "conv")[0]["c.weight"].shape == (20, 5, 3, 3)
    adapter(tmp_path / "e", {"base_model.model.e.lora_embedding_A": a, "base_model.model.e.lora_embedding_B": b})
    np.testing.assert_allclose(read(tmp_path, "e")[0]["e.weight"], (2 * b @ a).T, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (None, "bad_adapter"),
        ("{", "bad_adapter"),
        ("[1]", "bad_adapter"),
        ("[" * 100_000, "bad_adapter"),
        ('{"peft_type": "IA3"}', "unsupported_adapter"),
        ('{"lora_alpha": "a"}', "unsupported_adapter"),
        ('{"lora_alpha": NaN}', "unsupported_adapter"),
        ('{"lora_alpha": 1' + "0" * 400 + "}", "unsupported_adapter"),
    ],
)
def test_a_configuration_that_does_not_say(tmp_path: Path, config: str | None, reason: str) -> None:
    adapter(tmp_path / "m", lora("m", floats(4, 30), floats(20, 4)))
    path = tmp_path / "m" / "adapter_config.json"
    path.unlink()
    if config is not None:
        path.write_text(config)
    with pytest.raises(SkipError) as caught:
        read(tmp_path, "m")
    assert caught.value.reason == reason


def test_the_first_pattern_that_ends_the_name_counts(tmp_path: Path) -> None:
    names = ["a.q", "b.q", "b.xq", "q"]
    updates = {key: array for name in names for key, array in lora(name, floats(4, 30), floats(20, 4)).items()}
    adapter(tmp_path / "m", updates, alpha_pattern={"^q": 4, "b.q": 40, "b.*": 400, "nothing": "x"})
    found, _ = read(tmp_path, "m")
    scales = {
        name: float(np.median(found[f"{name}.weight"] / (updates[f"base_model.model.{name}.lora_B.weight"]
                                                         @ updates[f"base_model.model.{name}.lora_A.weight"])))
        for name in names
    }  # fmt: skip
    assert scales == pytest.approx({"a.q": 1, "b.q": 1, "b.xq": 2, "q": 1}, rel=1e-3)


@pytest.mark.parametrize("turned", [False, True])
def test_a_product_costs_what_it_is_made_of(tmp_path: Path, turned: bool) -> None:
    """2^34 values from 1 MB: only the runs that a sketch describes are worked out."""
    adapter(tmp_path / "m", lora("layers.0.q", floats(1, 1 << 17), floats(1 << 17, 1)), fan_in_fan_out=turned)
    source = FolderSource(tmp_path)
    (sketch,) = sketch_model(source, model(source, "m"), budget=0).model.sketches
    assert sketch.elements == 1 << 34
    assert sketch.covered < 1 << 25
    assert sketch.whole_hash is None


def base(root: Path, layers: int = 3) -> dict[str, Array]:
    tensors = {f"model.layers.{at}.self_attn.{part}.weight": floats(40, 40) for at in range(layers) for part in "qv"}
    (root / "base").mkdir(parents=True)
    save_file({**tensors, "model.embed_tokens.weight": floats(50, 40)}, root / "base" / "model.safetensors")
    return tensors


def test_an_adapter_lies_in_the_names_of_its_base_and_in_no_tree(tmp_path: Path) -> None:
    tensors = base(tmp_path / "zoo")
    tuned = [name.removesuffix(".weight") for name in tensors if ".q." in name]
    updates = {key: array for name in tuned for key, array in lora(name, floats(4, 40), floats(40, 4)).items()}
    adapter(tmp_path / "zoo" / "lora", updates)
    declare(tmp_path / "zoo" / "lora", "base")
    adapter(tmp_path / "zoo" / "other", lora("model.layers.0.self_attn.q", floats(4, 41), floats(40, 4)))
    declare(tmp_path / "zoo" / "other", "base")
    source = FolderSource(tmp_path / "zoo")
    sketched = sketch_model(source, model(source, "lora"), budget=0)
    shapes = {name: array.shape for name, array in tensors.items()}
    named = canonical_names({**shapes, "model.embed_tokens.weight": (50, 40)})
    assert {sketch.tensor for sketch in sketched.model.sketches} == {named[f"{name}.weight"] for name in tuned}
    assert (sketched.model.kind, sketched.model.quantization) == ("adapter", "lora 4")
    assert sketched.model.architecture != architecture_key(
        {sketch.tensor: sketch.shape for sketch in sketched.model.sketches}
    )

    index(source, tmp_path / "graph")
    with open_reader(tmp_path / "graph") as connection:
        assert connection.sql("select name from live_models").fetchall() == [("base",)]
        assert connection.sql("select adapter, base, fits from adapters order by all").fetchall() == [
            ("lora", "base", True),
            ("other", "base", False),
        ]
        assert connection.sql("select count(*) from components").fetchall() == [(1,)]


def test_models_that_hold_an_adapter_are_found(tmp_path: Path) -> None:
    """Merged as it is, at half its strength, and tuned on afterwards; not the child of other training."""
    zoo, graph = tmp_path / "zoo", tmp_path / "graph"
    tensors = base(zoo)
    tuned = {name: (floats(4, 40), floats(40, 4)) for name in tensors if ".q." in name}
    updates = {name: 2.0 * b @ a for name, (a, b) in tuned.items()}
    adapter(zoo / "lora", {k: w for name, (a, b) in tuned.items() for k, w in lora(name[:-7], a, b).items()})
    declare(zoo / "lora", "base")
    adapter(zoo / "unused", lora("model.layers.0.self_attn.q", floats(4, 40), floats(40, 4)))
    declare(zoo / "unused", "base")
    embedded = load_file(zoo / "base" / "model.safetensors")
    for folder, scale, noise in (("merged", 1.0, 0.0), ("half", 0.5, 0.0), ("tuned", 1.0, 0.004), ("apart", 0.0, 0.01)):
        child = {
            name: (w + scale * updates.get(name, 0) + noise * RANDOM.standard_normal(w.shape)).astype(np.float32)
            for name, w in embedded.items()
        }
        (zoo / folder).mkdir()
        save_file(child, zoo / folder / "model.safetensors")
    index(FolderSource(zoo), graph)
    with open_reader(graph) as connection:
        found = match_adapters(connection, graph)
        children = {row[0] for row in connection.sql("select child from parents where parent = 'base'").fetchall()}
    held = {row.merged_into: row for row in found if row.adapter == "lora"}
    assert set(held) == children & {"merged", "half", "tuned"} >= {"half"}
    for name, row in held.items():
        assert row.share == pytest.approx(0.5 if name == "half" else 1.0, abs=0.05)
        assert row.cosine is not None
        assert row.cosine > (0.9 if name == "tuned" else 0.999)
    assert [(row.merged_into, row.fits) for row in found if row.adapter == "unused"] == [(None, True)]
    assert [row["adapter"] for row in rows("adapters", graph=graph)] == [row.adapter for row in found]
