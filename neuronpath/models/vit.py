"""One Vision Transformer for both heads, its blocks open at named stages.

Source: Dosovitskiy et al. 2021 (ViT) and He et al. 2022 (fine-tuned MAE, mean pooling). Pre-norm, GELU exact
(erf) unless the config says otherwise, LayerNorm eps 1e-6. Parameter names are those of the public MAE files (timm's),
so these load strictly.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configs import Config
from .staged import Linear, StagedBlock, StagedModel, Tokens, linear


def quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


ACTIVATION: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu-tanh": partial(F.gelu, approximate="tanh"),
    "quick-gelu": quick_gelu,
}


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

    def forward(self, x: Tensor, queries: Tokens | None = None) -> Tensor:
        """(B, T, D) to (B, T, D), or only the rows `queries` of it (keys and values are of all tokens)."""
        return self.proj(self.mix(x, queries))

    def mix(self, x: Tensor, queries: Tokens | None = None) -> Tensor:
        """The same before the last layer: the heads side by side."""
        D = x.shape[-1]
        if queries is None:
            q, k, v = self._heads(self.qkv(x), 3)
        else:
            weight, bias = self.qkv.weight, self.qkv.bias
            (q,) = self._heads(linear(x[:, queries], weight[:D], bias[:D]), 1)
            k, v = self._heads(linear(x, weight[D:], bias[D:]), 2)
        x = F.scaled_dot_product_attention(q, k, v)  # (B, heads, T, D/heads)
        return x.transpose(1, 2).flatten(2)

    def _heads(self, x: Tensor, parts: int) -> Tensor:
        """(B, T, parts·D) to (parts, B, heads, T, D/heads)."""
        B, T, _ = x.shape
        return x.view(B, T, parts, self.num_heads, -1).permute(2, 0, 3, 1, 4)


class Mlp(nn.Module):
    def __init__(self, width: int, mlp_dim: int):
        super().__init__()
        self.fc1 = Linear(width, mlp_dim)
        self.fc2 = Linear(mlp_dim, width)


class Block(StagedBlock):
    """A pre-norm block."""

    def __init__(self, config: Config):
        super().__init__()
        D = config.width
        self.norm1 = LayerNorm(D)
        self.attn = Attention(D, config.num_heads)
        self.norm2 = LayerNorm(D)
        self.mlp = Mlp(D, config.mlp_dim)
        self.activation = ACTIVATION[config.activation]

    @property
    def fc1(self) -> Linear:
        return self.mlp.fc1

    @property
    def fc2(self) -> Linear:
        return self.mlp.fc2

    @property
    def num_heads(self) -> int:
        return self.attn.num_heads

    @property
    def proj(self) -> Linear:
        return self.attn.proj

    def mix(self, z: Tensor, queries: Tokens | None = None) -> Tensor:
        return self.attn.mix(self.norm1(z), queries)

    def attend(self, z: Tensor, queries: Tokens | None = None) -> Tensor:
        return (z if queries is None else z[:, queries]) + self.attn(self.norm1(z), queries)

    def hidden(self, a: Tensor) -> Tensor:
        """FFN activations after GELU: the neurons."""
        return self.activation(self.mlp.fc1(self.norm2(a)))

    def columns(self, neurons: Tensor) -> Tensor:
        """In the stream's dtype."""
        return super().columns(neurons).to(self.norm2.weight.dtype)


class PatchEmbed(nn.Module):
    def __init__(self, patch_size: int, width: int):
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch_size, patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, height, width) to (B, T-1, D), as a matrix product: on a GPU convolutions default to TF32."""
        patches = F.unfold(x, self.proj.kernel_size, stride=self.proj.stride).transpose(1, 2)  # (B, T-1, 3·p·p)
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


class VisionTransformer(StagedModel):
    """A ViT that classifies from the CLS token (`pool="cls"`) or from the mean patch token (`pool="mean"`).

    Images are (B, 3, height, width), normalised; logits (B, C). `config`: a `Config`, or a mapping with its names.
    """

    config: Config
    blocks: Sequence[Block]

    def __init__(self, config: Config | Mapping[str, Any]):
        super().__init__()
        self.config = config = Config.of(config)
        D = config.width
        self.patch_embed = PatchEmbed(config.patch_size, D)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, D))
        self.pos_embed = nn.Parameter(torch.zeros(1, config.tokens, D))
        if config.registers:
            self.reg_token = nn.Parameter(torch.zeros(1, config.registers, D))
        blocks = [Block(config) for _ in range(config.depth)]
        self.blocks = cast("Sequence[Block]", nn.ModuleList(blocks))
        if config.pool == "cls" or config.norm_first:
            self.norm = LayerNorm(D)
        else:
            self.fc_norm = LayerNorm(D)
        self.head = Linear(D, config.num_classes)

    @property
    def tokens(self) -> int:
        return self.config.tokens

    @property
    def dtype(self) -> torch.dtype:
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
        return slice(0, 1) if self.config.pool == "cls" else slice(1 + self.config.registers, None)

    @property
    def num_neuron_tokens(self) -> int:
        return 1 if self.config.pool == "cls" else self.config.patches

    @property
    def other_tokens(self) -> slice:
        """All but the neuron tokens; registers are among them."""
        return slice(1, None) if self.config.pool == "cls" else slice(0, 1 + self.config.registers)

    def join(self, neuron: Tensor, other: Tensor) -> Tensor:
        return torch.cat((neuron, other) if self.config.pool == "cls" else (other, neuron), dim=1)

    def embed(self, x: Tensor) -> Tensor:
        prefix = (self.cls_token, self.reg_token) if self.config.registers else (self.cls_token,)
        tokens = (*(token.expand(len(x), -1, -1) for token in prefix), self.patch_embed(x))
        return torch.cat(tokens, dim=1) + self.pos_embed

    def read(self, z: Tensor) -> Tensor:
        if self.config.pool == "cls":
            return self.head(self.norm(z[:, 0]))
        if self.config.norm_first:
            return self.head(self.norm(z).mean(1))
        return self.head(self.fc_norm(z.mean(1)))
