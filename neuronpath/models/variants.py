"""State dicts that depart from the plain ViT in ways that its own parameters can take.

LayerScale is multiplied into the attention's `proj` and into fc2, biases that no block has are zeros, as are positions
of CLS and registers that the file has not.
"""

import math
import re
from dataclasses import dataclass, field

import torch
from torch import Tensor

_BIASES = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
_SCALED = ("attn.proj", "mlp.fc2")
_GAMMAS = (("ls1.gamma", "ls2.gamma"), ("gamma_1", "gamma_2"))


@dataclass(frozen=True)
class Variant:
    """In what a state dict departs from the plain one.

    `registers`: their number. `scales`: the name of LayerScale's vector by that of the layer it scales. `zeros`:
    parameters that it leaves out. `notes`: what else its names fit, and what is therefore assumed.
    """

    registers: int = 0
    scales: dict[str, str] = field(default_factory=dict)
    zeros: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    def scaled(self, name: str, tensor: Tensor, tensors: dict[str, Tensor]) -> Tensor:
        """A parameter with its LayerScale, (out, in) or (out,), multiplied in float64."""
        gamma = self.scales.get(name.rpartition(".")[0])
        if gamma is None:
            return tensor
        return tensor.double() * tensors[gamma].double().view(-1, *[1] * (tensor.ndim - 1))


PLAIN = Variant()


def variant(tensors: dict[str, Tensor], depth: int) -> Variant:
    """That of a state dict with timm's names and `depth` blocks."""
    blocks = [f"blocks.{i}" for i in range(depth)]
    scales, notes = dict[str, str](), tuple[str, ...]()
    for gammas in _GAMMAS:
        if any(re.fullmatch(rf"blocks\.\d+\.({'|'.join(map(re.escape, gammas))})", name) for name in tensors):
            pairs = zip(_SCALED, gammas, strict=True)
            scales = {f"{block}.{layer}": f"{block}.{gamma}" for layer, gamma in pairs for block in blocks}
            notes = () if gammas is _GAMMAS[0] else ("no rotary positions",)  # timm's rotary ViTs have the same names
            break
    zeros = set()
    for layer in _BIASES:
        biases = {f"{block}.{layer}.bias" for block in blocks}
        if not biases & tensors.keys():
            zeros |= {name for name in biases if name.replace(".bias", ".weight") in tensors}
    registers = tensors["reg_token"].shape[1] if "reg_token" in tensors and tensors["reg_token"].ndim == 3 else 0
    return Variant(registers, scales, frozenset(zeros), notes)


def prefixes(positions: int, registers: int) -> list[int]:
    """How many of so many positions may come before a square grid's: CLS, CLS and registers, or none."""
    return [n for n in dict.fromkeys((1, 1 + registers, 0)) if is_square(positions - n)]


def is_square(n: int) -> bool:
    return n > 0 and math.isqrt(n) ** 2 == n


def with_prefix(positions: Tensor, prefix: int, tokens: int) -> Tensor:
    """(1, prefix + patches, D) to (1, tokens, D): zeros where CLS or registers have no position."""
    missing = tokens - positions.shape[1]
    zeros = torch.zeros(1, missing, positions.shape[2], dtype=positions.dtype)
    return torch.cat((positions[:, :prefix], zeros, positions[:, prefix:]), dim=1)
