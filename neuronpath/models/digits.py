"""The checkpoints of the embedded default: a note beside each says which images it was trained on, and how."""

import json
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import DIGITS, MADE, ROOT, TRAIN, noted, replace_file, sha256

CHECKPOINTS = {"ViT-digits": "ckpt/ViT-digits.npz", "MAE-digits": "ckpt/MAE-digits.pth"}
EPOCHS = 12


def sign(checkpoint: Path, images: Path, **settings: Any) -> None:
    """Write beside a checkpoint that it was trained on the digits in `images` with these settings."""
    content = {"sha256": sha256(checkpoint), "images": noted(images / MADE), **settings}
    replace_file(_note(checkpoint), json.dumps(content) + "\n")


def outdated(checkpoint: Path, images: Path) -> str:
    """Why a checkpoint is none of the digits in `images`; "" where it is one, or nothing says how these were made."""
    content, there = noted(_note(checkpoint)), noted(images / MADE)
    if content.get("sha256") != sha256(checkpoint):
        return "made by an earlier version"
    return "trained on other images" if there and content.get("images") != there else ""


def check_default(checkpoint: Path) -> None:
    """UserError where it is one of CHECKPOINTS, and outdated."""
    default = checkpoint.resolve() in [(ROOT / name).resolve() for name in CHECKPOINTS.values()]
    if default and checkpoint.is_file() and (why := outdated(checkpoint, ROOT / DIGITS)):
        raise UserError(f"{checkpoint}: {why}; train it anew with: {TRAIN}")


def _note(checkpoint: Path) -> Path:
    return checkpoint.with_name(f"{checkpoint.stem}.{MADE}")
