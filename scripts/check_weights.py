"""Load checkpoints and compare the parameters in each file with the published count (ckpt/README.md).

    python scripts/check_weights.py ckpt/ViT-B_16-224.npz ckpt/ViT-B_32.npz ckpt/ViT-L_32.npz \\
        ckpt/mae_finetuned_vit_base.pth

Under a minute and 4 GB of memory for the four; scripts/download_weights.sh runs it. Expect one line per file with
"as published"; exit code 2 where a file cannot be loaded or holds another number. Other file names have no count.
"""

import sys
from pathlib import Path

import neuronpath
from neuronpath.cli import command
from neuronpath.errors import UserError
from neuronpath.parsing import Parser

PUBLISHED = {
    "ViT-B_16-224.npz": 86_567_656,
    "ViT-B_32.npz": 88_297_192,
    "ViT-L_32.npz": 306_632_680,
    "mae_finetuned_vit_base.pth": 86_567_656,
}


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="checkpoint: .npz, .pth or .safetensors")
    faults = []
    for file in parser.parse_args().files:
        model = neuronpath.load(file)  # strict and at the file's own image size: the model holds what the file holds
        count, expected = sum(p.numel() for p in model.parameters()), PUBLISHED.get(file.name)
        verdict = "no published count" if expected is None else "as published"
        if expected not in (None, count):
            verdict = f"NOT the published {expected:,}"
            faults.append(f"{file} holds {count:,} parameters, not {expected:,}")
        size, classes = model.config.img_size, model.config.num_classes
        print(f"{file}: {count:,} parameters ({verdict}), {size} × {size} pixels, {classes} classes", flush=True)
    if faults:
        raise UserError(f"{'; '.join(faults)}: not the public weights; delete and download again")


if __name__ == "__main__":
    sys.exit(command(main))
