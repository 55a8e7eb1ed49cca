"""Training of the embedded default: a small Vision Transformer from scratch."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from .configs import Config
from .vit import VisionTransformer


def train(config: Config, images: Tensor, labels: Tensor, epochs: int, seed: int) -> VisionTransformer:
    """A ViT of `config` trained from scratch with AdamW, a one-cycle learning rate and jittered images."""
    torch.manual_seed(seed)
    model = VisionTransformer(config)
    _initialise(model)
    batch_size, peak = 64, 2e-3
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, weight_decay=0.05)
    steps = epochs * math.ceil(len(images) / batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=steps)
    model.train()
    with tqdm(total=steps, desc="training", unit="step", dynamic_ncols=True) as bar:
        for epoch in range(epochs):
            for batch in torch.randperm(len(images)).split(batch_size):
                loss = F.cross_entropy(model(_jitter(images[batch])), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                bar.set_postfix_str(f"epoch {epoch + 1}/{epochs}, loss {loss.item():.3f}", refresh=False)
                bar.update()
    return model.eval().requires_grad_(False)


@torch.no_grad()
def accuracy(model: VisionTransformer, images: Tensor, labels: Tensor) -> float:
    """Top-1 accuracy, 0 to 1."""
    return (model(images).argmax(-1) == labels).float().mean().item()


def _initialise(model: VisionTransformer) -> None:
    for name, parameter in model.named_parameters():
        if name in ("cls_token", "reg_token", "pos_embed"):
            # Position embeddings as small as the other tokens cost half of the epochs: until they have grown, the model
            # does not know where a patch is.
            torch.nn.init.normal_(parameter, std=0.3 if name == "pos_embed" else 0.02)
        elif name.endswith("bias"):
            torch.nn.init.zeros_(parameter)
        elif parameter.ndim > 1:
            torch.nn.init.xavier_uniform_(parameter.flatten(1))


def _jitter(images: Tensor) -> Tensor:
    """Each image turned by up to 10°, scaled by up to 10 % and moved by up to 2 of 32 pixels, at random."""
    n = len(images)
    angle = (torch.rand(n) * 2 - 1) * math.radians(10)
    scale = 1 + (torch.rand(n) * 2 - 1) * 0.1
    rows = torch.stack((angle.cos() * scale, -angle.sin() * scale, angle.sin() * scale, angle.cos() * scale), 1)
    shift = (torch.rand(n, 2, 1) * 2 - 1) * (2 / 16)  # in half widths
    grid = F.affine_grid(torch.cat((rows.view(n, 2, 2), shift), 2), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
