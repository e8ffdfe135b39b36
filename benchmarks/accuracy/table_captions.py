"""What each table of the paper is, in words that hold whatever was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["CAPTIONS", "FIGURES", "MONOTONIC", "SETS", "SOURCES"]

SOURCES: Final = {"weights": "whole weights", "sketch": "sketches"}
MONOTONIC: Final = 0.9
"""A score that moves one way in this share of its steps is called monotonic; the paper says "almost monotonic"."""

SETS: Final[Mapping[str, str]] = {
    "ft": "full fine-tuning, as the paper's FT",
    "lora-f": "LoRA of rank 16, as LoRA-F",
    "lora-v": "LoRA of rank 8, 16, 32 or 64, as LoRA-V",
    "bf16": "full fine-tuning saved in bfloat16; not in the paper",
    "decay": "full fine-tuning with strong weight decay; not in the paper",
    "minilm-ft": "all-MiniLM-L6-v2, fine-tuned on text; not in the paper",
    "minilm-lora": "the same, tuned by LoRA; not in the paper",
    "seeds": "three children of each root by one recipe, with other seeds",
    "checkpoints": "states along a pre-training, and along a fine-tuning from its end",
}

CAPTIONS: Final[Mapping[str, str]] = {
    "table 1": (
        "Accuracy of MoTHer Recovery, tree by tree and over the whole Model Graph. *Directed* is the paper's metric; "
        "*undirected* counts an edge the wrong way round as well. Given, as in the paper: the distance (equation 1 or "
        "2), the stage, and for the graph the number of clusters. The paper's trees have other roots; theirs range "
        "from 0.5 to 1.0 (FT), from 0.8 to 1.0 (LoRA-F) and are all 1.0 (LoRA-V). Where the score points the wrong way "
        "(see *Direction*), lambda makes the true edge dear, and a wrong one is taken (see *Lambda*). Ranks are whole "
        "numbers and tie; ties go by content hash, and another order moves the figures of LoRA a little."
    ),
    "LoRA with l_FT": (
        "Section 6.1: the same for LoRA with equation 1 (over the tuned value layers) in place of equation 2."
    ),
    "lambda": (
        "Directed and undirected accuracy over the Model Graph against the constant c of lambda = c mean(D), which the "
        "paper does not give; 0.3 is that of the authors' code and of all other tables here. At a small c the distance "
        "alone places the edges, and the score only chooses the root."
    ),
    "direction": (
        "Share of true edges on which the directional weight score (equation 3) falls from parent to child, as it "
        "should in specialization, and the mean kurtosis of a layer of the roots: a normal distribution has 3, and "
        "without tails there are none to lose. Sketches hold the exact score."
    ),
    "table 4": (
        "Smaller trees: ten samples a size and tree, drawn in two ways, for the paper does not say in which. "
        "*Connected*: grown from the root, every parent is there. *Any models*: the root and any others; the true "
        "parent of a model is then its nearest ancestor that was drawn."
    ),
    "similar models": (
        "Section 6.3: children of one parent by one recipe, with three seeds. All trees are found where siblings lie "
        "farther from each other than from their parent, and the root is recognised."
    ),
    "triplets": (
        "Section 5.1: random graphs of three models, solved by the paper's protocol without being told which of the "
        "four kinds they are: grandparent, parent, child (GPC); parent and two children (PC2); parent, child, "
        "stranger (PCS); three strangers (S3). *Edges placed* leaves directions aside; *solved* does not. The "
        "threshold for strangers, which the paper does not give, is half of a layer's range (equation 1) or full rank "
        "(2). With the right edges, a root drawn by lot solves 1/3 of GPC and PC2 and 1/2 of PCS."
    ),
    "figure 2": (
        "Correlation of weight distance and edge distance within a tree: over all pairs of models (Pearson, Spearman), "
        "and over the mean weight distance at each edge distance (Pearson of means); the paper does not say of which "
        "its 0.99 is. Mean over trees, and standard deviation. In the figure: mean over pairs, bars of one standard "
        "deviation."
    ),
    "figure 3": (
        "Share of steps between checkpoints in which the directional weight score (dense layers) moves the paper's "
        "way. The paper shows it almost monotonic in all cases, ResNets among them; here there are only Vision "
        "Transformers. The figure is drawn from whole weights; sketches hold the same score."
    ),
    "figure 7": (
        "Share of models that are clustered rightly by L1 distance (single linkage, number of clusters known), over 20 "
        "random graphs a size with models of every tree."
    ),
    "figure 14": (
        "Directional scores along fine-tuning, dense layers: share of steps in which each rises. A score is of use "
        "where the share is near 1 in all trees, or near 0 in all. The figure is drawn from whole weights. Sketches "
        "hold the exact moments; entropy they have from samples."
    ),
    "figure 19": "The same for the kurtosis of each type of layer.",
}
FIGURES: Final = {name: f"paper-{name.replace('ure ', '')}.svg" for name in CAPTIONS if name.startswith("figure")}
