"""Write a zero-shot head for a local CLIP or SigLIP folder, of transformers or OpenCLIP: one class per name.

    python scripts/zero_shot.py --pretrain_weight FOLDER --names names.txt --output classifier.npz
    python path/joint_attr.py --pretrain_weight FOLDER --classifier classifier.npz --preprocess native

Under a second per hundred texts; offline. Expect the file's path and the number of classes. Then joint_attr.py, or
joint_attr_mae.py for a tower whose head reads several tokens, takes it.
"""

import sys
from pathlib import Path

from neuronpath.cli.exits import Report, command
from neuronpath.cli.parsing import Parser
from neuronpath.cli.threads import settle_threads
from neuronpath.errors import UserError
from neuronpath.files import writing


def parser_of() -> Parser:
    parser = Parser(__doc__)
    parser.add_argument(
        "--pretrain_weight",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="with both towers and, for transformers, its tokenizer (required)",
    )
    parser.add_argument(
        "--names",
        required=True,
        metavar="FILE",
        help="class names, one per line, in the order of the labels; or imagenet1k (required)",
    )
    parser.add_argument(
        "--templates",
        nargs="+",
        default=["a photo of a {}."],
        metavar="TEXT",
        help="sentences with {} for the name, whose features are averaged; or usual: the seven of CLIP's authors "
        "for ImageNet (default: 'a photo of a {}.')",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("classifier.npz"), metavar="FILE", help="(default: %(default)s)"
    )
    return parser


def main() -> Report:
    o = parser_of().parse_args()
    if o.output.suffix != ".npz":
        raise UserError(f"--output {o.output}: a classifier ends in .npz")
    settle_threads()
    from neuronpath.data.names import class_names
    from neuronpath.models.classifiers import write_classifier
    from neuronpath.models.zero_shot import USUAL, read_names, zero_shot

    names = class_names(o.names, Path()) if o.names == "imagenet1k" else read_names(Path(o.names))
    templates = USUAL if o.templates == ["usual"] else o.templates
    classifier = zero_shot(o.pretrain_weight, names, templates)
    with writing(o.output, "; choose another --output"):
        o.output.parent.mkdir(parents=True, exist_ok=True)
        write_classifier(classifier, o.output)
    count, width = classifier.weight.shape
    return Report(f"classifier  {o.output.resolve()}: {count} classes of {width} features, {len(templates)} templates")


if __name__ == "__main__":
    sys.exit(command(main))
