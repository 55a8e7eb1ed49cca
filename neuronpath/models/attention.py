"""Attention of a foreign block, opened before its last linear layer: what enters that is the heads side by side.

Of the libraries' own kinds only; that it is one is then tried. Nothing of it is rewritten or changed.
"""

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..errors import UserError
from .staged import Linear

LIBRARIES = ("timm", "transformers", "open_clip")
LAST = ("proj", "o_proj", "out_proj")  # what they call the last linear layer
NORMS = ("norm", "inner_attn_ln")  # what may stand between it and the heads


class Reached(Exception):
    """A forward has come as far as is wanted."""

    def __init__(self, value: Any):
        super().__init__()
        self.value = value


class OpenAttention(nn.Module):
    """The attention of `block`, whose FFN writes nothing: `heads` of the stream, `last` of these, scale included.

    `stream` (B, T, D) is an example, by which it is tried. UserError for attention of an unknown kind.
    """

    def __init__(self, block: Callable[[Tensor], Tensor], parts: nn.Module, stream: Tensor):
        super().__init__()
        self.attention = found = _find(parts)
        self.whole = isinstance(found, nn.MultiheadAttention)  # its last layer is no module that is called
        own = found.out_proj if isinstance(found, nn.MultiheadAttention) else _last(found)
        self.num_heads = _num_heads(found)
        with torch.no_grad():
            x, added = self.heads(block, stream), block(stream) - stream
            if x.shape[:2] != stream.shape[:2] or x.shape[2] != own.in_features or x.shape[2] % self.num_heads:
                raise UserError(f"what enters {type(found).__name__}'s last layer is not the heads of each token")
            written = nn.functional.linear(x, own.weight, own.bias)
            scales = [p.data for p in parts.parameters() if p.shape == stream.shape[-1:]]
            for scale in (torch.ones_like(stream[0, 0]), *scales):
                if (added - scale * written).abs().max() <= 1e-5 * added.abs().max():
                    break
            else:
                raise UserError(f"{type(found).__name__}'s output is not added as it is, nor scaled per channel")
        self.last = Linear(own.in_features, own.out_features).to(own.weight)
        self.last.weight.data = own.weight.data * scale[:, None]
        self.last.bias.data = torch.zeros_like(scale) if own.bias is None else own.bias.data * scale

    def heads(self, block: Callable[[Tensor], Tensor], stream: Tensor) -> Tensor:
        """(B, T, C), the heads side by side: a forward of `block` as far as them."""
        target = self.attention if self.whole else _last(self.attention)

        def reached(module: nn.Module, args: tuple, kwargs: dict) -> NoReturn:
            raise Reached((args, kwargs))

        hook = target.register_forward_pre_hook(reached, with_kwargs=True)
        try:
            block(stream)
        except Reached as e:
            args, kwargs = e.value
        else:
            raise UserError(f"{type(self.attention).__name__} is not what its block calls")
        finally:
            hook.remove()
        if not self.whole:
            return args[0].flatten(1, -2)
        last = self.attention.out_proj
        assert isinstance(last, nn.Linear)
        own = {"out_proj.weight": torch.eye(last.in_features).to(last.weight)}
        own |= {} if last.bias is None else {"out_proj.bias": torch.zeros_like(last.bias)}
        x = functional_call(self.attention, own, args, kwargs)[0]
        return x if self.attention.batch_first else x.transpose(0, 1)


def _find(parts: nn.Module) -> nn.Module:
    """The one attention of a block. UserError for none of a known kind, and for several."""
    called = [m for m in parts.modules() if type(m).__name__.endswith("Attention")]
    if len(called) != 1:
        raise UserError(f"its block has {len(called)} modules of attention, not one of a known kind")
    found, name = called[0], type(called[0]).__name__
    if isinstance(found, nn.MultiheadAttention):
        return found
    if type(found).__module__.partition(".")[0] not in LIBRARIES:
        raise UserError(f"{name} is no attention of {', '.join(LIBRARIES)} or torch")
    _num_heads(found)
    _last(found)
    if any(not isinstance(getattr(found, norm, None) or nn.Identity(), nn.Identity) for norm in NORMS):
        raise UserError(f"{name} has a norm of all heads before its last layer")
    return found


def _num_heads(attention: nn.Module) -> int:
    for name in ("num_heads", "num_attention_heads"):
        if isinstance(found := getattr(attention, name, None), int):
            return found
    raise UserError(f"{type(attention).__name__} does not tell how many heads it has")


def _last(attention: nn.Module) -> nn.Linear:
    for name in LAST:
        if isinstance(found := getattr(attention, name, None), nn.Linear):
            return found
    raise UserError(f"{type(attention).__name__} has no last linear layer (named {', '.join(LAST)})")
