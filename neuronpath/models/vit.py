"""One Vision Transformer for both heads, its blocks open at named stages.

Source: Dosovitskiy et al. 2021 (ViT) and He et al. 2022 (fine-tuned MAE, mean pooling). Pre-norm, GELU exact
(erf), LayerNorm eps 1e-6. Parameter names are those of the public MAE files (timm's), so these load strictly.

Whoever studies a block asks for a stage instead of copying the model:

    a = block.attend(z)       # (B, T, D)  residual stream after attention
    h = block.hidden(a)       # (B, T, H)  the neurons: FFN activations after GELU, before fc2
    z = a + block.project(h)  # (B, T, D)  residual stream after the block
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
import torch.autograd.forward_ad as forward_ad
import torch.nn.functional as F
from torch import Tensor, nn

from .configs import Config


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear` in the weight's dtype, with its own forward-mode rule: a tangent passes through the weight alone.

    PyTorch's rule also multiplies by the weight's tangent, which is zero here: three products where two do.
    """
    x, tangent = forward_ad.unpack_dual(x)
    y = F.linear(x.to(weight.dtype), weight, bias)
    return y if tangent is None else forward_ad.make_dual(y, F.linear(tangent.to(weight.dtype), weight))


class Linear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


class LayerNorm(nn.LayerNorm):
    def __init__(self, width: int):
        super().__init__(width, eps=1e-6)


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = Linear(width, 3 * width)
        self.proj = Linear(width, width)

    def forward(self, x: Tensor, queries: slice | None = None) -> Tensor:
        """(B, T, D) to (B, T, D), or only the rows `queries` of it (keys and values are of all tokens)."""
        D = x.shape[-1]
        if queries is None:
            q, k, v = self._heads(self.qkv(x), 3)
        else:
            weight, bias = self.qkv.weight, self.qkv.bias
            (q,) = self._heads(linear(x[:, queries], weight[:D], bias[:D]), 1)
            k, v = self._heads(linear(x, weight[D:], bias[D:]), 2)
        x = F.scaled_dot_product_attention(q, k, v)  # (B, heads, T, D/heads)
        return self.proj(x.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor, parts: int) -> Tensor:
        """(B, T, parts·D) to (parts, B, heads, T, D/heads)."""
        B, T, _ = x.shape
        return x.view(B, T, parts, self.num_heads, -1).permute(2, 0, 3, 1, 4)


class Mlp(nn.Module):
    def __init__(self, width: int, mlp_dim: int):
        super().__init__()
        self.fc1 = Linear(width, mlp_dim)
        self.fc2 = Linear(mlp_dim, width)


class Block(nn.Module):
    """A pre-norm block in three stages: attend, hidden, project."""

    def __init__(self, width: int, num_heads: int, mlp_dim: int):
        super().__init__()
        self.norm1 = LayerNorm(width)
        self.attn = Attention(width, num_heads)
        self.norm2 = LayerNorm(width)
        self.mlp = Mlp(width, mlp_dim)

    def attend(self, z: Tensor, queries: slice | None = None) -> Tensor:
        """The residual stream after attention, of all tokens or of `queries` only."""
        return (z if queries is None else z[:, queries]) + self.attn(self.norm1(z), queries)

    def hidden(self, a: Tensor) -> Tensor:
        """FFN activations after GELU: the neurons."""
        return F.gelu(self.mlp.fc1(self.norm2(a)))

    def project(self, h: Tensor) -> Tensor:
        """What the neurons write to the residual stream."""
        return self.mlp.fc2(h)

    def columns(self, neurons: Tensor) -> Tensor:
        """What a unit of each of `neurons` (…) writes: columns of fc2.weight, (…, D), in the stream's dtype."""
        return self.mlp.fc2.weight.T[neurons].to(self.norm2.weight.dtype)

    def neuron_gradient(self, written: Tensor) -> Tensor:
        """∂F/∂(the neurons), (…, H), from ∂F/∂(what they write), (…, D)."""
        return written @ self.mlp.fc2.weight.to(written.dtype)

    def forward(self, z: Tensor, queries: slice | None = None) -> Tensor:
        a = self.attend(z, queries)
        return a + self.project(self.hidden(a))


class PatchEmbed(nn.Module):
    def __init__(self, patch_size: int, width: int):
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch_size, patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, height, width) to (B, T-1, D), as a matrix product: on a GPU convolutions default to TF32."""
        patches = F.unfold(x, self.proj.kernel_size, stride=self.proj.stride).transpose(1, 2)  # (B, T-1, 3·p·p)
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


class VisionTransformer(nn.Module):
    """A ViT that classifies from the CLS token (`pool="cls"`) or from the mean patch token (`pool="mean"`).

    Images are (B, 3, height, width), normalised; logits (B, C). `config`: a `Config`, or a mapping with its names.
    """

    blocks: Sequence[Block]

    def __init__(self, config: Config | Mapping[str, Any]):
        super().__init__()
        self.config = config = Config.of(config)
        D = config.width
        self.patch_embed = PatchEmbed(config.patch_size, D)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, D))
        self.pos_embed = nn.Parameter(torch.zeros(1, config.tokens, D))
        blocks = [Block(D, config.num_heads, config.mlp_dim) for _ in range(config.depth)]
        self.blocks = cast("Sequence[Block]", nn.ModuleList(blocks))
        if config.pool == "cls":
            self.norm = LayerNorm(D)
        else:
            self.fc_norm = LayerNorm(D)
        self.head = Linear(D, config.num_classes)

    @property
    def dtype(self) -> torch.dtype:
        """Of images, residual streams, logits and scores; the blocks' products may be in another."""
        return self.pos_embed.dtype

    def set_dtype(self, dtype: torch.dtype) -> "VisionTransformer":
        """float32 or float64 throughout, or bfloat16: the blocks' linear layers and attention, all else float32."""
        self.to(torch.float32 if dtype == torch.bfloat16 else dtype)
        for block in self.blocks:
            for module in block.modules():
                if isinstance(module, Linear):
                    module.to(dtype)
        return self

    @property
    def neuron_tokens(self) -> slice:
        """The tokens that the head reads, hence those whose FFN units are neurons (docs/method.md §1)."""
        return slice(0, 1) if self.config.pool == "cls" else slice(1, None)

    @property
    def num_neuron_tokens(self) -> int:
        """N."""
        return 1 if self.config.pool == "cls" else self.config.tokens - 1

    @property
    def other_tokens(self) -> slice:
        return slice(1, None) if self.config.pool == "cls" else slice(0, 1)

    def join(self, neuron: Tensor, other: Tensor) -> Tensor:
        """The neuron tokens and the other tokens in the model's order, (B, T, D)."""
        return torch.cat((neuron, other) if self.config.pool == "cls" else (other, neuron), dim=1)

    def embed(self, x: Tensor) -> Tensor:
        """The residual stream entering block 0, (B, T, D)."""
        patches = self.patch_embed(x)
        return torch.cat((self.cls_token.expand(len(x), -1, -1), patches), dim=1) + self.pos_embed

    def queries(self, layer: int) -> slice | None:
        """Which rows block `layer` must compute: all (None), but in the last only those the head reads."""
        return self.neuron_tokens if layer == len(self.blocks) - 1 else None

    def run(self, z: Tensor, first: int = 0) -> Tensor:
        """Logits (B, C) from the residual stream entering block `first`.

        z: (B, T, D); after the last block (`first` = L) the neuron tokens alone, (B, N, D).
        """
        for layer in range(first, len(self.blocks)):
            z = self.blocks[layer](z, self.queries(layer))
        return self.read(z)

    def read(self, z: Tensor) -> Tensor:
        """Logits (B, C) from the neuron tokens after the last block, (B, N, D)."""
        if self.config.pool == "cls":
            return self.head(self.norm(z[:, 0]))
        return self.head(self.fc_norm(z.mean(1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self.embed(x))
