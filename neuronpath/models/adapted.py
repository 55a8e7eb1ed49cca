"""Any live Vision Transformer for the engine: a module from images to logits, its own blocks cut at the neurons.

Nothing of the model is rewritten. Its blocks must be pre-norm, `z + attention`, then `a + scale·ffn(norm(a))`: so are
those of timm, `transformers`, torchvision and OpenCLIP. What enters the FFN's last linear layer is the neurons;
attention, embedding and head stay whatever they are; the tokens that the head reads are found from its gradient. The
blocks are found by how data flow through them, not by the names of a library. What would give wrong paths is refused.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from ..errors import UserError, one_line
from .attention import OpenAttention, Reached
from .configs import AdaptedShape
from .staged import Linear, StagedBlock, StagedModel, Tokens

FFN = ("mlp", "ffn", "feed_forward")  # what libraries call it in a block
AGREE = 1e-3  # largest difference between the cut model and the given one, relative to the largest value
LARGE = 1e3  # an FFN output that no norm could hide

Listed = nn.ModuleList | nn.Sequential


class Stop(nn.Module):
    """In the place of the first block: it ends the forward, or goes on with `told` as what the last block returned.

    `shape`: of an image's stream; some models keep the grid, (height, width, D).
    """

    told: Tensor | None = None

    def __init__(self, shape: torch.Size):
        super().__init__()
        self.shape = shape

    def forward(self, z: Tensor, *_: Any, **__: Any) -> Tensor:
        if self.told is None:
            raise Reached(z.flatten(1, -2))
        return self.told.reshape(-1, *self.shape)


class Pass(nn.Module):
    """In the place of the other blocks."""

    def forward(self, z: Tensor, *_: Any, **__: Any) -> Tensor:
        return z


class Write(nn.Module):
    """In the place of an FFN: it writes `told`, by default nothing."""

    told: Tensor | None = None

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        return torch.zeros_like(x) if self.told is None else self.told.reshape(x.shape)


class PlainAttention(nn.MultiheadAttention):
    """PyTorch's without its fast path, which has no forward mode: that is taken only where `training` is false."""

    training = property(lambda self: True, lambda self, mode: None)


class AdaptedBlock(StagedBlock):
    """A foreign block in three stages, as `seen` in a forward; `seen` names what of it are the FFN and its norm."""

    def __init__(self, seen: "SeenBlock"):
        super().__init__()
        self.block, self.args, self.kwargs, self.write = seen.block, seen.args, seen.kwargs, Write()
        self.shape = seen.shape
        last = seen.last
        setattr(seen.block, seen.ffn_name, self.write)
        scale = self._scale(seen.entering)
        self.last = Linear(last.in_features, last.out_features).to(last.weight)
        self.last.weight.data = last.weight.data * scale[:, None]
        self.last.bias.data = torch.zeros_like(scale) if last.bias is None else last.bias.data * scale
        names = {module: name for name, module in seen.ffn.named_modules()}
        if names[last]:
            seen.ffn.set_submodule(names[last], nn.Identity())
        self.norm, self.neurons = seen.norm, seen.ffn if names[last] else nn.Identity()
        for child, module in list(seen.block.named_children()):
            if module is seen.norm:
                setattr(seen.block, child, nn.Identity())  # nothing reads its output any more
        self.opened, self.fault = None, ""
        try:
            self.opened = OpenAttention(self.attend, self.block, seen.entering)
        except UserError as e:  # its neurons are none the worse
            self.fault = str(e)

    opened: OpenAttention | None

    @property
    def attention(self) -> OpenAttention:
        """UserError where it is of an unknown kind."""
        if self.opened is None:
            raise UserError(f"{type(self.block).__name__} cannot be opened at its heads: {self.fault}")
        return self.opened

    @property
    def num_heads(self) -> int:
        return self.attention.num_heads

    @property
    def proj(self) -> Linear:
        return self.attention.last

    def mix(self, z: Tensor, queries: Tokens | None = None) -> Tensor:
        x = self.attention.heads(self.attend, z)
        return x if queries is None else x[:, queries]

    @property
    def fc1(self) -> nn.Linear:
        return first_layer(self.neurons, self.last)

    @property
    def fc2(self) -> Linear:
        return self.last

    def attend(self, z: Tensor, queries: Tokens | None = None) -> Tensor:
        a = self.block(z.reshape(-1, *self.shape), *self.args, **self.kwargs).flatten(1, -2)
        return a if queries is None else a[:, queries]

    def hidden(self, a: Tensor) -> Tensor:
        return self.neurons(self.norm(a))

    @torch.no_grad()
    def _scale(self, stream: Tensor) -> Tensor:
        """What multiplies the FFN's output before it is added, (D,): a LayerScale, or 1. UserError for anything else.

        Tried with an output so large that a norm behind the FFN, or a gate, cannot pass for one.
        """
        generator = torch.Generator().manual_seed(0)
        out = LARGE * torch.randn(stream.shape, generator=generator, dtype=torch.float64).to(stream)
        without, self.write.told = self.attend(stream), out
        added, self.write.told = self.attend(stream) - without, None
        estimate = (added * out).sum((0, 1)) / (out * out).sum((0, 1))
        kept = [p.data for p in self.block.parameters() if p.shape == estimate.shape]
        for scale in (torch.ones_like(estimate), *kept):
            if close(estimate, scale) and close(added, out * scale):
                return scale
        raise UserError("the output of its FFN is not added as it is, nor scaled per channel (a norm behind it?)")


class AdaptedModel(StagedModel):
    """A foreign model in stages; its neuron tokens are those that its head reads."""

    def __init__(
        self, module: nn.Module, listed: Listed, blocks: list[AdaptedBlock], read: Tensor, shape: AdaptedShape
    ):
        """`listed`: where the module has its blocks; they make room for ones that pass. `read` (T,): neuron tokens."""
        super().__init__()
        self.config, self.module, self.entry = shape, module, Stop(blocks[0].shape)
        self.blocks = cast("Sequence[AdaptedBlock]", nn.ModuleList(blocks))
        for i in range(len(listed)):
            listed[i] = Pass() if i else self.entry
        blank = blocks[0].last.weight.new_zeros(1, 3, shape.img_size, shape.img_size)
        kept, rest = read.nonzero()[:, 0], (~read).nonzero()[:, 0]
        self.register_buffer("kept", kept, persistent=False)
        self.register_buffer("rest", rest, persistent=False)
        self.register_buffer("order", torch.cat((kept, rest)).argsort(), persistent=False)
        self.register_buffer("blank", blank, persistent=False)
        self._slices = as_slice(kept), as_slice(rest)

    config: AdaptedShape
    kept: Tensor
    rest: Tensor
    order: Tensor
    blank: Tensor

    @property
    def dtype(self) -> torch.dtype:
        return self.blank.dtype

    @property
    def tokens(self) -> int:
        return len(self.order)

    @property
    def neuron_tokens(self) -> Tokens:
        return self.kept if self._slices[0] is None else self._slices[0]

    @property
    def other_tokens(self) -> Tokens:
        return self.rest if self._slices[1] is None else self._slices[1]

    @property
    def num_neuron_tokens(self) -> int:
        return len(self.kept)

    def set_dtype(self, dtype: torch.dtype) -> "AdaptedModel":
        """float32 or float64. UserError for bfloat16, which only the package's own modules can mix with float32."""
        if dtype == torch.bfloat16:
            raise UserError("--precision bf16 is for the package's own models; choose fp32, fp64 or tf32 for this one")
        return self.to(dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "AdaptedModel":
        """What the blocks are called with moves along with the parameters."""
        for block in self.blocks:
            block.args, block.kwargs = tree_map_only(Tensor, fn, (block.args, block.kwargs))
        return super()._apply(fn, recurse)

    def join(self, neuron: Tensor, other: Tensor) -> Tensor:
        if None in self._slices:
            return torch.cat((neuron, other), 1)[:, self.order]
        first = not len(self.kept) or not int(self.kept[0])
        return torch.cat((neuron, other) if first else (other, neuron), 1)

    def embed(self, x: Tensor) -> Tensor:
        self.entry.told = None
        try:
            self.module(x)
        except Reached as reached:
            return reached.value
        raise AssertionError("the blocks were not reached")

    def read(self, z: Tensor) -> Tensor:
        self.entry.told = self.join(z, z.new_zeros(len(z), self.tokens - z.shape[1], z.shape[2]))
        try:
            return logits_of(self.module(self.blank))  # what one image embeds to is not read
        finally:
            self.entry.told = None


def adapt(module: nn.Module, images: Tensor | None = None, img_size: int = 224) -> AdaptedModel:
    """`module` for `find_path` and the rest, frozen, on its own device; the given one stays as it is.

    `module` maps images (B, 3, height, width) to logits (B, C), or to an output with `.logits`. `images`: two or more
    examples of its input; normal noise of `img_size` where not given. Half precision becomes float32.
    UserError, in one line, for a module whose blocks are of another kind, and where the cut one is not equal to it.
    """
    name = type(module).__name__
    try:
        return _adapt(module, images, img_size)
    except UserError as e:
        raise UserError(f"{name} cannot be cut at its neurons: {e}") from e


def _adapt(module: nn.Module, images: Tensor | None, img_size: int) -> AdaptedModel:
    name, module = type(module).__name__, copy.deepcopy(module).eval().requires_grad_(False)
    if next(module.parameters()).dtype not in (torch.float32, torch.float64):
        module = module.float()
    for child in module.modules():
        if type(child) is nn.MultiheadAttention:
            child.__class__, child.dropout = PlainAttention, 0.0
    images = (noise(2, img_size, seed=0) if images is None else images).to(next(module.parameters()))
    others = noise(3, images.shape[-1], seed=1).to(images)  # another number of images, so that none is wired in
    try:
        with torch.no_grad():
            expected = logits_of(module(others))
    except (RuntimeError, TypeError, ValueError, AssertionError) as e:
        raise UserError(f"it takes no images of {images.shape[-1]} pixels alone ({one_line(e, 100)})") from e
    listed = find_blocks(module, images)
    seen = see(module, listed, images)
    read = read_tokens(seen)
    widths = sorted({block.neurons.shape[-1] for block in seen.blocks})
    if len(widths) > 1:
        raise UserError(f"its layers have different numbers of neurons, {', '.join(map(str, widths))}")
    blocks = []
    for layer, block in enumerate(seen.blocks):
        try:
            blocks.append(AdaptedBlock(block))
        except UserError as e:
            raise UserError(f"block {layer}: {e}") from e
    shape = AdaptedShape(
        img_size=images.shape[-1],
        width=seen.last.shape[-1],
        depth=len(blocks),
        mlp_dim=widths[0],
        num_classes=expected.shape[1],
        architecture=name,
        tokens=len(read),
        neuron_tokens=int(read.sum()),
        neuron_token_indices=spans(read.nonzero()[:, 0].tolist()),
    )
    adapted = AdaptedModel(module, listed, blocks, read, shape).eval().requires_grad_(False)
    for child in adapted.modules():
        if type(child) is nn.Linear:
            child.__class__ = Linear  # with its forward mode
    with torch.no_grad():
        for layer, (cut, block) in enumerate(zip(adapted.blocks, seen.blocks, strict=True)):
            if not close(cut.hidden(cut.attend(block.entering)), block.neurons):
                raise UserError(f"block {layer}: its FFN does not follow its attention (are they in parallel?)")
        if not close(adapted(images), seen.logits.detach()) or not close(adapted(others), expected):
            raise UserError("cut, it gives other logits (does its head read several layers, or the image itself?)")
    return adapted


@dataclass(frozen=True)
class SeenBlock:
    """A block in a forward of B images: what entered it, how it was called, and its parts."""

    block: nn.Module
    entering: Tensor  # (B, T, D)
    shape: torch.Size  # of an image's stream as the block takes it: (T, D), or (height, width, D)
    args: tuple
    kwargs: dict[str, Any]
    norm: nn.Module  # its child whose output the FFN takes
    ffn_name: str
    ffn: nn.Module
    last: nn.Linear  # the FFN's last layer
    neurons: Tensor  # (B, T, H), what enters it


@dataclass(frozen=True)
class Seen:
    logits: Tensor  # (B, C), of `last`
    last: Tensor  # the stream after the last block, a leaf
    blocks: list[SeenBlock]


def find_blocks(module: nn.Module, images: Tensor) -> Listed:
    """The list of blocks with an FFN each that the images pass. UserError where there is none, or more than one."""
    lists = [m for m in module.modules() if isinstance(m, nn.ModuleList | nn.Sequential) and len(m)]
    lists = [m for m in lists if all(ffn_name(block) for block in m)]
    called: list[Listed] = []
    hooks = [m[0].register_forward_pre_hook(lambda *_, m=m: called.append(m)) for m in lists]
    with torch.no_grad():
        module(images)
    for hook in hooks:
        hook.remove()
    if not called:
        raise UserError(f"it has no list of transformer blocks with an FFN each (named {' or '.join(FFN)})")
    if len(called) > 1:
        raise UserError(
            f"it has {len(called)} lists of blocks with an FFN each, not one (hierarchical, parallel or class "
            "attention)"
        )
    return called[0]


def see(module: nn.Module, listed: Listed, images: Tensor) -> Seen:
    """One forward of `images`, watched; of the head with a graph."""
    watched = [_Watched(block) for block in listed]
    with torch.enable_grad():
        try:
            ends = listed[-1].register_forward_hook(
                lambda module, given, output: stream_of(output).detach().requires_grad_()
            )
            outputs: list[Tensor] = []
            kept = listed[-1].register_forward_hook(lambda module, given, output: outputs.append(output))
            logits = logits_of(module(images))
        finally:
            for hook in (ends, kept, *(hook for block in watched for hook in block.hooks)):
                hook.remove()
    blocks = []
    for layer, block in enumerate(watched):
        try:
            blocks.append(block.seen())
        except UserError as e:
            raise UserError(f"block {layer}: {e}") from e
    return Seen(logits, outputs[0], blocks)


class _Watched:
    """Hooks on a block, its children and the linear layers of its FFN, for one forward."""

    def __init__(self, block: nn.Module):
        self.block, self.name = block, ffn_name(block)
        self.ffn = ffn = getattr(block, self.name)
        self.called: list[tuple[Tensor, tuple, dict]] = []
        self.outputs: list[tuple[nn.Module, Any]] = []
        self.inputs: list[Tensor] = []
        self.linears: list[tuple[nn.Linear, Tensor]] = []
        self.hooks = [
            block.register_forward_pre_hook(self._block, with_kwargs=True),
            ffn.register_forward_pre_hook(lambda module, given: self.inputs.append(given[0])),
            *(
                child.register_forward_hook(lambda module, given, output: self.outputs.append((module, output)))
                for child in block.children()
                if child is not ffn
            ),
            *(
                child.register_forward_pre_hook(lambda module, given: self.linears.append((module, given[0].detach())))
                for child in ffn.modules()
                if isinstance(child, nn.Linear)
            ),
        ]

    def _block(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        if not args:
            raise UserError("its blocks are not given the stream as their first argument")
        rest = tree_map_only(Tensor, Tensor.detach, (args[1:], kwargs))
        self.called.append((stream_of(args[0]).detach(), *rest))

    def seen(self) -> SeenBlock:
        if len(self.called) != 1 or len(self.inputs) != 1 or not self.linears:
            raise UserError("it is not passed once, with an FFN that is and has a linear layer")
        feeds = [module for module, output in self.outputs if output is self.inputs[0]]
        if not feeds:
            raise UserError("no norm of its own feeds its FFN (pre-norm blocks have one)")
        (stream, args, kwargs), (last, neurons) = self.called[0], self.linears[-1]
        if last.out_features != stream.shape[-1]:
            raise UserError(f"its FFN writes {last.out_features} numbers into a stream of {stream.shape[-1]}")
        feed, shape, z = feeds[-1], stream.shape[1:], stream.flatten(1, -2)
        return SeenBlock(self.block, z, shape, args, kwargs, feed, self.name, self.ffn, last, neurons.flatten(1, -2))


def first_layer(ffn: nn.Module, last: nn.Linear) -> nn.Linear:
    """Of an FFN, with or without its last layer, the only other linear one. UserError where it has more weights."""
    linears = [module for module in ffn.modules() if isinstance(module, nn.Linear) and module is not last]
    own = {id(parameter) for module in (*linears, last) for parameter in module.parameters()}
    if len(linears) != 1 or any(id(parameter) not in own for parameter in ffn.parameters()):
        raise UserError("its FFN is not two linear layers with an activation between them (gates, or a norm inside?)")
    if linears[0].out_features != last.in_features:
        raise UserError(f"its FFN's first layer gives {linears[0].out_features} numbers, its last takes others")
    return linears[0]


def read_tokens(seen: Seen) -> Tensor:
    """Which tokens the logits depend on, (T,), from their gradient by the last stream."""
    weights = torch.arange(seen.logits.shape[1]).to(seen.logits).sin()
    (gradient,) = torch.autograd.grad((seen.logits * weights).sum(), seen.last)
    return gradient.flatten(1, -2).abs().amax((0, 2)) > 0


def ffn_name(block: nn.Module) -> str:
    """The name of a block's FFN, "" where it has none."""
    return next((name for name in FFN if isinstance(getattr(block, name, None), nn.Module)), "")


def stream_of(value: object) -> Tensor:
    """What enters or leaves a block, where it is the residual stream: (B, T, D) or (B, height, width, D)."""
    if not isinstance(value, Tensor) or value.ndim not in (3, 4):
        raise UserError("its blocks do not take and return the stream alone, (B, tokens, D) or (B, height, width, D)")
    return value


def logits_of(output: Any) -> Tensor:
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise UserError("it does not return logits (B, classes), nor an output that has them")
    return logits


def as_slice(index: Tensor) -> slice | None:
    """A slice where the indices are consecutive, since it copies nothing."""
    if not len(index):
        return slice(0, 0)
    first, last = int(index[0]), int(index[-1])
    return slice(first, last + 1) if last + 1 - first == len(index) else None


def spans(indices: Sequence[int]) -> str:
    """Ascending indices as text: 0,5-8."""
    parts: list[list[int]] = []
    for i in indices:
        if parts and i == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], i]
        else:
            parts.append([i])
    return ",".join("-".join(map(str, part)) for part in parts)


def close(x: Tensor, expected: Tensor) -> bool:
    return x.shape == expected.shape and bool((x - expected).abs().max() <= AGREE * expected.abs().max())


def noise(count: int, size: int, seed: int) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
