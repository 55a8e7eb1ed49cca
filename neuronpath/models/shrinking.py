"""Smaller models: FFN units cut out of fc1 and fc2 for good (docs/method.md §5)."""

import copy
import importlib
import json
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import UserError
from ..files import replace_file
from . import folders, from_timm, from_transformers
from .adapted import close, find_blocks, first_layer, noise, see
from .configs import Shape
from .foreign import read_tensors
from .staged import StagedModel

M = TypeVar("M", bound=StagedModel)
#: Largest difference, relative to the largest value, that rounding may make where products are summed otherwise.
ALIKE = {torch.bfloat16: 0.02, torch.float32: 1e-4, torch.float64: 1e-9}


@torch.no_grad()
def shrink(model: M, kept: Tensor | Sequence[Sequence[int]], means: Tensor | None = None) -> M:
    """A copy of `model` with nothing but the FFN units `kept` (L, J) of its layers, J ≤ H, in ascending order.

    At every token it computes what `model` does with the other units at 0, or with `means` (L, H) at these: what they
    write then is added to fc2's bias. The given model stays as it is.

    ValueError for units that are not J distinct ones, 0 to H - 1, in each of L layers, and for other means. UserError
    where an FFN is not two linear layers with an activation between them that treats every unit alone.
    """
    L, H = model.config.depth, model.config.mlp_dim
    units = _checked(kept, L, H)
    if means is not None and (means.shape != (L, H) or not means.isfinite().all()):
        raise ValueError(f"means must be {L} × {H} finite numbers, not {tuple(means.shape)}")
    small = copy.deepcopy(model)
    for layer, (block, whole) in enumerate(zip(small.blocks, model.blocks, strict=True)):
        try:
            own = units[layer].to(model.device)
            cut(block.fc1, block.fc2, own, None if means is None else means[layer])
            a = torch.randn(2, model.tokens, model.config.width, generator=torch.Generator().manual_seed(layer))
            a = a.to(model.device, model.dtype)
            expected = whole.hidden(a)[..., own]
            limit = ALIKE[block.fc1.weight.dtype] * expected.abs().max()
            if not ((block.hidden(a) - expected).abs().max() <= limit):  # so that NaN does not pass
                raise UserError("what stands between the layers of its FFN mixes units")
        except (UserError, RuntimeError) as e:
            raise UserError(f"{type(model).__name__} cannot be shrunk: block {layer}: {e}") from e
    small.config = model.config.with_(mlp_dim=units.shape[1])
    return small


def cut(fc1: nn.Linear, fc2: nn.Linear, units: Tensor, means: Tensor | None) -> None:
    """Leave an FFN only `units` (J,), in ascending order; `means` (H,) of the others go into the bias of fc2."""
    units = units.sort().values
    if means is not None:
        fc2.bias.data = fc2.bias + fc2.weight @ means.to(fc2.weight).index_fill(0, units, 0)
    fc1.weight, fc2.weight = _frozen(fc1.weight[units]), _frozen(fc2.weight[:, units])
    if fc1.bias is not None:
        fc1.bias = _frozen(fc1.bias[units])
    fc1.out_features = fc2.in_features = len(units)


def _frozen(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.contiguous().clone(), requires_grad=False)


def _checked(kept: Tensor | Sequence[Sequence[int]], L: int, H: int) -> Tensor:
    """The units as (L, J) in ascending order."""
    try:
        units = torch.as_tensor(kept).cpu()
        whole = not (units.is_floating_point() or units.dtype == torch.bool) and units.ndim == 2 and units.numel() > 0
        units = units.long().sort(-1).values
        whole = whole and len(units) == L and bool(units.min() >= 0 and units.max() < H)
        if not whole or bool((units.diff(dim=-1) == 0).any()):
            raise ValueError
    except (ValueError, TypeError, RuntimeError) as e:
        raise ValueError(f"kept must be as many distinct units, 0 to {H - 1}, in each of {L} layers") from e
    return units


@dataclass(frozen=True)
class Folder:
    """A folder of timm or `transformers`, of which a smaller one can be written."""

    folder: Path
    kind: ModuleType  # the module here that reads it
    settings: Path
    config: dict[str, Any]
    tensors: dict[str, Tensor]

    @classmethod
    def of(cls, folder: Path, model_type: str, output: Path) -> "Folder":
        """UserError where it is none of these with a classifier of its own, and where `output` is there."""
        if not folder.is_dir():
            raise UserError(f"{folder}: of a weights file of {model_type} no smaller file is written; give a folder")
        kind, settings, weights, config = folders.opened(folder)
        named = [str(name) for name in config.get("architectures") or ()]
        if kind is not from_timm and not (named and named[0].endswith(from_transformers.CLASSIFIERS)):
            advice = "in Python, neuronpath.shrink makes a smaller live model"
            raise UserError(f"{folder}: smaller folders are written of classifiers of timm and transformers; {advice}")
        if output.exists():
            raise UserError(f"{output}: there is something already; choose another --output, for a folder")
        return cls(folder, kind, settings, config, read_tensors(weights))

    def write(self, small: StagedModel, kept: Tensor, means: Tensor | None, output: Path) -> None:
        """`small`, which `shrink` made with `kept` and `means`, as a folder.

        It is read again and compared. UserError where its architecture has no place for the smaller model.
        """
        size = small.config.img_size
        module = self.kind.open_folder(self.settings, self.config, self.tensors, size).module
        images = noise(2, size, seed=0)
        for layer, seen in enumerate(see(module, find_blocks(module, images), images).blocks):
            folded = None if means is None or seen.last.bias is None else means[layer]
            cut(first_layer(seen.ffn, seen.last), seen.last, kept[layer], folded)
        temporary = output.with_name(f"{output.name}.{os.getpid()}.tmp")
        temporary.mkdir(parents=True)
        try:
            self._write(module, small.config, temporary)
            found = folders.load_folder(temporary, size).set_dtype(small.dtype).to(small.device)
            given = images.to(small.device, small.dtype)
            if not close(found(given), small(given)):
                raise UserError("it gives other logits")
            temporary.rename(output)
        except UserError as e:
            raise UserError(f"{self.folder}: its architecture has no place for the smaller model ({e})") from e
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _write(self, module: Any, shape: Shape, folder: Path) -> None:
        if self.kind is from_transformers:
            module.config.intermediate_size = shape.mlp_dim
            with from_transformers.quiet(importlib.import_module("transformers")):
                module.save_pretrained(folder)
            for file in self.folder.glob("*processor_config.json"):
                shutil.copy(file, folder)
            return
        ratio = shape.mlp_dim / shape.width
        if int(shape.width * ratio) < shape.mlp_dim:  # which is how timm counts
            ratio = math.nextafter(ratio, math.inf)
        config = {**self.config, "model_args": {**(self.config.get("model_args") or {}), "mlp_ratio": ratio}}
        save_file({name: x.contiguous() for name, x in module.state_dict().items()}, folder / folders.FILES[1])
        replace_file(folder / folders.FILES[0], json.dumps(config, indent=2) + "\n")
