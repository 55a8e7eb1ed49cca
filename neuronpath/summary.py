"""What a run found, in a few lines. It keeps sums, not records: memory does not grow with the images."""

from pathlib import Path

from .errors import printable
from .records import label_files

NEAR_TIE = 1e-4  # below this margin fp32 does not tell which neuron is the better (docs/method.md §7)


class Summary:
    """Running means over the records of a run; `scores` maps record keys to names."""

    def __init__(self, scores: dict[str, str]):
        self.scores = scores
        self.images = self.correct = self.near_ties = 0
        self.sums = dict.fromkeys(scores, 0.0)
        self.smallest: list[tuple[float, int, str]] = []  # margin, layer, image

    def add(self, record: dict) -> None:
        self.images += 1
        self.correct += record["pred"] == record["label"]
        for key in self.sums:
            self.sums[key] += record[key]
        margin, layer = min((margin, layer) for layer, margin in enumerate(record["margin"]))
        self.near_ties += margin < NEAR_TIE
        self.smallest = sorted([*self.smallest, (margin, layer, record["image"])])[:3]

    def mean(self, key: str) -> float:
        return self.sums[key] / self.images if self.images else float("nan")

    def running(self) -> str:
        return f"mean JAS {self.mean(next(iter(self.scores))):.4f}"

    def text(self, resumed: int, seconds: float, directory: Path, prefix: str) -> str:
        new, files = self.images - resumed, label_files(directory, prefix)
        lines = [("images", f"{self.images} ({new} new, {resumed} from earlier runs)")]
        if self.images:
            scores = " · ".join(f"{name} {self.mean(key):.4f}" for key, name in self.scores.items())
            smallest = ", ".join(f"{m:.1e} (layer {layer} of {printable(image)})" for m, layer, image in self.smallest)
            lines += [
                ("top-1", f"{100 * self.correct / self.images:.2f} %"),
                ("mean JAS", scores),
                ("margins", f"smallest {smallest}; {self.near_ties} images below {NEAR_TIE:g}"),
            ]
        if new:
            lines.append(("time", f"{seconds:.1f} s, {seconds / new:.3f} s per new image"))
        lines.append(("files", f"{directory.resolve()}/{prefix}-<label>.rlt.jsonl ({len(files)} labels)"))
        return "\n".join(f"{name:<11} {value}" for name, value in lines)
