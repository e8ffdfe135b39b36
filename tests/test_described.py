"""What a list says spares requests, and says no more than it knows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crawl import described
from crawl.described import Description, Descriptions
from crawl.hub import HubSource
from crawl.model_sketch import sketch_model
from crawl.source import ModelRef
from scripts.hub_server import HubServer
from store.records import Claim
from tests.hub_models import make_models, reason_of
from tests.weights import root as weights
from tests.weights import save

pytestmark = pytest.mark.usefixtures("own_session")

SHA = "0" * 40


@pytest.mark.parametrize(
    ("files", "only"),
    [
        (("README.md", "config.json", "model.safetensors"), "model.safetensors"),
        (("model.safetensors", "training_args.bin"), "model.safetensors"),
        (("model.safetensors", "model.safetensors.index.json"), None),
        (("model.safetensors", "pytorch_model.bin"), None),
        (("model-00001-of-00001.safetensors",), None),
        (("adapter_model.safetensors",), None),
        (("onnx/model.onnx", "model.safetensors"), None),
        (("unet/model.safetensors",), None),
        ((), None),
    ],
)
def test_only_what_is_simple_is_taken_from_a_list(files: tuple[str, ...], only: str | None) -> None:
    assert Description(SHA, files, ()).only_weights == only


def test_what_is_remembered_is_of_one_revision_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(described, "KEPT", 2)
    monkeypatch.setattr(described, "IN_USE", 1)
    known = Descriptions()
    row = {"siblings": [{"rfilename": "x"}, {"rfilename": "../x"}, {"rfilename": 7}, 7], "tags": ["t"]}
    for name in ("a/a", "b/b", "a/a", "c/c"):
        known.note(name, SHA, row)
    # The first of a list are read first, so they stay.
    assert known.of(ModelRef("c/c", SHA)) is None
    assert known.of(ModelRef("a/a", "1" * 40)) is None
    for _ in range(2):
        assert known.of(ModelRef("a/a", SHA)) == Description(SHA, ("x",), (Claim("tags", "t", "hub"),))
    # One that was asked about makes room.
    known.note("c/c", SHA, row)
    assert known.of(ModelRef("c/c", SHA)) is not None
    assert known.of(ModelRef("a/a", SHA)) is None
    assert known.of(ModelRef("b/b", SHA)) is not None
    known.note("d/d", SHA, {"id": "d/d"})
    assert known.of(ModelRef("d/d", SHA)) is None
    many = [{"rfilename": f"{n}.txt"} for n in range(described.MAX_FILES + 1)]
    known.note("e/e", SHA, {"siblings": many, "cardData": "no object"})
    assert known.of(ModelRef("e/e", SHA)) == Description(SHA, (), ())


def test_a_small_model_costs_one_request_and_its_claims_none(tmp_path: Path) -> None:
    save(tmp_path / "o" / "small", weights(1))
    (tmp_path / "o/small/README.md").write_text("---\nbase_model: o/base\nlicense: mit\n---\n")
    (tmp_path / "o/small/config.json").write_text("{}")
    with HubServer(tmp_path) as hub:
        source = HubSource(hub.url, "hf_test")
        (ref,) = [each for each in source.models() if isinstance(each, ModelRef)]
        hub.reset()
        model = sketch_model(source, ref, budget=64 << 20).model
        assert hub.stats()["requests"] == 1
        assert model.bytes_read == model.bytes_total == (tmp_path / "o/small/model.safetensors").stat().st_size
        assert {(claim.field, claim.value, claim.stated_in) for claim in model.claims} >= {
            ("base_model", "o/base", "README.md"),
            ("license", "mit", "README.md"),
            ("author", "o", "hub"),
        }
        # Another source has no list: it asks for files, card and configuration, and finds the same model.
        again = sketch_model(HubSource(hub.url, "hf_test"), ref, budget=64 << 20).model
        assert hub.stats()["requests"] == 1 + 4
        assert again.content_hash == model.content_hash
        assert {claim for claim in again.claims if claim.field == "base_model"} <= set(model.claims)


def test_an_adapters_base_is_asked_for(tmp_path: Path) -> None:
    save(tmp_path / "o" / "tuned", weights(1))
    (tmp_path / "o/tuned/adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "o/base"}))
    with HubServer(tmp_path) as hub:
        source = HubSource(hub.url, "hf_test")
        (ref,) = [each for each in source.models() if isinstance(each, ModelRef)]
        assert Claim("base_model", "o/base", "adapter_config.json") in sketch_model(source, ref, budget=0).model.claims


def test_a_model_that_goes_between_list_and_file(tmp_path: Path) -> None:
    make_models(tmp_path)
    with HubServer(tmp_path) as hub:
        source = HubSource(hub.url, "hf_test")
        refs = {each.name: each for each in source.models() if isinstance(each, ModelRef)}
        assert source.listed_files(refs["bob/beta"]) is None
        (tmp_path / "ada/alpha/model.safetensors").unlink()
        assert reason_of(lambda: sketch_model(source, refs["ada/alpha"], budget=0)) == "vanished"
