"""A small Vision Transformer whose parameters bear the names that Hugging Face's ViT gives them."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

SIDE, PATCH, WIDTH, DEPTH, HEADS, HIDDEN = 32, 8, 128, 6, 4, 512
TOKENS = (SIDE // PATCH) ** 2
State = dict[str, torch.Tensor]


class SelfAttention(nn.Module):
    """The three projections and the attention itself, without the output's projection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        shape = (batch, tokens, HEADS, width // HEADS)
        query, key, value = (layer(x).view(shape).transpose(1, 2) for layer in (self.query, self.key, self.value))
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return mixed.transpose(1, 2).reshape(batch, tokens, width)


class Dense(nn.Module):
    """A linear layer one name deeper, as Hugging Face has it: `output.dense.weight`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dense(x)  # type: ignore[no-any-return]


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = SelfAttention(width)
        self.output = Dense(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(self.attention(x))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """A pre-norm block."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.attention = Attention(width)
        self.intermediate = Dense(width, hidden)
        self.output = Dense(hidden, width)
        self.layernorm_before = nn.LayerNorm(width)
        self.layernorm_after = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.layernorm_before(x))
        return x + self.output(  # type: ignore[no-any-return]
            functional.gelu(self.intermediate(self.layernorm_after(x)))
        )


class Embeddings(nn.Module):
    """Patches, the CLS token and the positions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * 0.2)
        self.position_embeddings = nn.Parameter(torch.randn(1, TOKENS + 1, width) * 0.2)
        self.patch_embeddings = nn.ModuleDict({"projection": nn.Conv2d(3, width, PATCH, PATCH)})

    def forward(self, x: torch.Tensor, seen: torch.Tensor | None) -> torch.Tensor:
        patches: torch.Tensor = self.patch_embeddings["projection"](x).flatten(2).transpose(1, 2)
        patches = patches + self.position_embeddings[:, 1:]
        if seen is not None:
            patches = patches.gather(1, seen[:, :, None].expand(-1, -1, patches.shape[2]))
        first = (self.cls_token + self.position_embeddings[:, :1]).expand(len(x), -1, -1)
        return torch.cat([first, patches], 1)


class Encoder(nn.Module):
    def __init__(self, depth: int, width: int, hidden: int) -> None:
        super().__init__()
        self.blocks = [Layer(width, hidden) for _ in range(depth)]
        self.layer = nn.ModuleList(self.blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.blocks:
            x = layer(x)
        return x


class ViT(nn.Module):
    """`seen` names, per image, the patches that the encoder is shown: masked autoencoding hides the others."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.embeddings = Embeddings(WIDTH)
        self.encoder = Encoder(DEPTH, WIDTH, HIDDEN)
        self.layernorm = nn.LayerNorm(WIDTH)
        self.classifier = nn.Linear(WIDTH, classes)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.05)
                nn.init.zeros_(module.bias)

    def tokens(self, x: torch.Tensor, seen: torch.Tensor | None = None) -> torch.Tensor:
        return self.layernorm(self.encoder(self.embeddings(x, seen)))  # type: ignore[no-any-return]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.tokens(x)[:, 0])  # type: ignore[no-any-return]
