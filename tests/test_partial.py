"""Children of which only a part was trained are named so, with what is frozen."""

from __future__ import annotations

import numpy as np

from indexer.partial import frozen_evidence
from indexer.solve import solve_component
from tests.grown import family_of, grow, parents_of, start
from tests.weights import Weights


def with_vectors(weights: Weights, seed: int) -> Weights:
    rng = np.random.default_rng(seed)
    vectors = {f"layers.{i}.bias": rng.standard_normal(64).astype(np.float32) for i in range(len(weights))}
    return weights | vectors


def test_frozen_layers_are_said_in_words() -> None:
    root = start(1)
    trained = grow(root, 2)
    child = {k: trained[k] if at >= 4 else w for at, (k, w) in enumerate(root.items())}
    models = {"root": root, "child": child, "full": grow(root, 3)}
    sketched = family_of(models)
    found = parents_of(sketched)
    assert {frozenset((name, *found[name])) for name in found} >= {frozenset(("full", "root", "finetune"))}
    assert "partial" in {relation for _, relation in found.values()}
    at = {name: i for i, name in enumerate(sketched.names)}
    evidence = frozen_evidence(sketched, at["root"], at["child"])
    assert evidence is not None
    assert evidence.says == "blocks 0-3 frozen; 2 of 6 weight tensors moved"
    assert 0.5 < evidence.value < 0.7
    assert frozen_evidence(sketched, at["root"], at["full"]) is None


def test_tensors_within_blocks() -> None:
    root = {f"layers.{i}.{part}.weight": w for i in range(2) for part, w in zip("ab", start(i).values(), strict=False)}
    trained = grow(root, 2)
    child = {k: trained[k] if ".b." in k and "1" in k else w for k, w in root.items()}
    sketched = family_of({"root": root, "child": child})
    evidence = frozen_evidence(sketched, 1, 0)
    assert evidence is not None
    assert evidence.says == "block 0 and 1 other tensor in blocks frozen; 1 of 4 weight tensors moved"


def test_trained_biases_alone() -> None:
    """Weights are all equal, so distances are: the vectors say that the root is in the middle."""
    root = with_vectors(start(1), 5)
    vectors = {k: w for k, w in root.items() if k.endswith("bias")}
    models = {"m-root": root, "far": grow(root, 9)}
    for i in range(4):
        models[f"b{i}"] = root | grow(vectors, 10 + i, 0.1)
    sketched = family_of(models)
    edges = solve_component(sketched).edges
    names = dict(zip(sketched.model_ids.tolist(), sketched.names, strict=True))
    partial = {names[e.child_id]: names[e.parent_id] for e in edges if e.relation == "partial"}
    assert len(partial) == 4
    # A star about the root, whichever of its rays the tree hangs on.
    assert all("m-root" in pair for pair in partial.items())
    (first, *_) = [e for edge in edges if edge.relation == "partial" for e in edge.evidence if e.cue == "frozen"]
    assert first.value == 1.0
    assert first.says == "all weights frozen; 6 biases or norms moved"
