"""What the engine asks of a model: blocks open at three stages, and tokens of which the head reads some.

Whoever studies a block asks for a stage instead of copying the model:

    a = block.attend(z)       # (B, T, D)  residual stream after attention
    h = block.hidden(a)       # (B, T, H)  the neurons: FFN activations before the FFN's last layer
    z = a + block.project(h)  # (B, T, D)  residual stream after the block

Attention opens likewise: what its heads put side by side, and its last layer, in which every head has its own columns.

    x = block.mix(z)          # (B, T, heads·size)
    a = z + block.merge(x)    # as block.attend(z)
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.autograd.forward_ad as forward_ad
import torch.nn.functional as F
from torch import Tensor, nn

from ..pixels import Preprocessing
from .configs import Shape

Tokens = slice | Tensor  # which tokens: consecutive ones, or their indices


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


class StagedBlock(nn.Module, ABC):
    """A pre-norm block in three stages: attend, hidden, project."""

    @property
    @abstractmethod
    def fc1(self) -> nn.Linear:
        """The FFN's first layer, whose outputs are the neurons before an activation.

        UserError where the FFN is not two linear layers with that between them.
        """

    @property
    @abstractmethod
    def fc2(self) -> Linear:
        """The FFN's last layer: neuron j writes h_j times column j of its weight; with a bias."""

    @property
    @abstractmethod
    def num_heads(self) -> int: ...

    @property
    @abstractmethod
    def proj(self) -> Linear:
        """Attention's last layer: a head writes its slice of `mix` times its columns of the weight; with a bias."""

    @abstractmethod
    def mix(self, z: Tensor, queries: Tokens | None = None) -> Tensor:
        """What enters attention's last layer, the heads side by side, of all tokens or of `queries` only."""

    def merge(self, x: Tensor) -> Tensor:
        """What the heads write to the residual stream."""
        return self.proj(x)

    @abstractmethod
    def attend(self, z: Tensor, queries: Tokens | None = None) -> Tensor:
        """The residual stream after attention, of all tokens or of `queries` only."""

    @abstractmethod
    def hidden(self, a: Tensor) -> Tensor:
        """The neurons: what enters the FFN's last layer."""

    def project(self, h: Tensor) -> Tensor:
        """What the neurons write to the residual stream."""
        return self.fc2(h)

    def columns(self, neurons: Tensor) -> Tensor:
        """What a unit of each of `neurons` (…) writes: columns of fc2.weight, (…, D)."""
        return self.fc2.weight.T[neurons]

    def neuron_gradient(self, written: Tensor) -> Tensor:
        """∂F/∂(the neurons), (…, H), from ∂F/∂(what they write), (…, D)."""
        return written @ self.fc2.weight.to(written.dtype)

    def forward(self, z: Tensor, queries: Tokens | None = None) -> Tensor:
        a = self.attend(z, queries)
        return a + self.project(self.hidden(a))


class StagedModel(nn.Module, ABC):
    """A Vision Transformer in stages. Images are (B, 3, height, width), normalised; logits (B, C).

    `native`: how the images were prepared that it was trained on, None where that is not known. `assumed`: what the
    file of its weights does not tell, in words. `class_names`: by label, where the weights come with them.
    """

    config: Shape
    blocks: Sequence[StagedBlock]
    native: Preprocessing | None = None
    assumed: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """Of images, residual streams, logits and scores; the blocks' products may be in another."""

    @property
    @abstractmethod
    def tokens(self) -> int:
        """T: all tokens of the residual stream."""

    @property
    @abstractmethod
    def neuron_tokens(self) -> Tokens:
        """The tokens that the head reads, hence those whose FFN units are neurons (docs/method.md §1)."""

    @property
    @abstractmethod
    def other_tokens(self) -> Tokens: ...

    @property
    @abstractmethod
    def num_neuron_tokens(self) -> int:
        """N."""

    @abstractmethod
    def set_dtype(self, dtype: torch.dtype) -> "StagedModel": ...

    @abstractmethod
    def join(self, neuron: Tensor, other: Tensor) -> Tensor:
        """The neuron tokens and the other tokens in the model's order, (B, T, D)."""

    @abstractmethod
    def embed(self, x: Tensor) -> Tensor:
        """The residual stream entering block 0, (B, T, D)."""

    @abstractmethod
    def read(self, z: Tensor) -> Tensor:
        """Logits (B, C) from the neuron tokens after the last block, (B, N, D)."""

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def queries(self, layer: int) -> Tokens | None:
        """Which rows block `layer` must compute: all (None), but in the last only those the head reads."""
        return self.neuron_tokens if layer == len(self.blocks) - 1 else None

    def run(self, z: Tensor, first: int = 0) -> Tensor:
        """Logits (B, C) from the residual stream entering block `first`.

        z: (B, T, D); after the last block (`first` = L) the neuron tokens alone, (B, N, D).
        """
        for layer in range(first, len(self.blocks)):
            z = self.blocks[layer](z, self.queries(layer))
        return self.read(z)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self.embed(x))
