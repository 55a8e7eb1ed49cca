"""What a run found, in a few lines. It keeps sums, not records: memory does not grow with the images."""

from collections.abc import Sequence
from pathlib import Path

from ..attribution.matching import Match, match_words
from ..errors import printable
from ..records.reading import label_files


class Summary:
    """Counts over the records of a run; what it adds to them is a subclass's."""

    def __init__(self) -> None:
        self.images = self.correct = 0

    def add(self, record: dict) -> None:
        self.images += 1
        self.correct += record["pred"] == record["label"]

    def running(self) -> str:
        """A word on the progress bar."""
        raise NotImplementedError

    def lines(self) -> list[tuple[str, str]]:
        """(name, value) of what was found in at least one image."""
        return [("top-1", f"{100 * self.correct / self.images:.2f} %")]

    def written(self, directory: Path, prefix: str) -> tuple[str, str]:
        """(name, value) of where the results are."""
        return "files", f"{directory}/{prefix}-<label>.rlt.jsonl ({len(label_files(directory, prefix))} labels)"

    def text(self, resumed: int, seconds: float, directory: Path, prefix: str) -> str:
        new = self.images - resumed
        lines = [("images", f"{self.images} ({new} new, {resumed} from earlier runs)")]
        if self.images:
            lines += self.lines()
        if new:
            lines.append(("time", f"{seconds:.1f} s, {seconds / new:.3f} s per new image"))
        lines.append(self.written(directory.resolve(), prefix))
        return "\n".join(f"{name:<11} {value}" for name, value in lines)


class ScoreSummary(Summary):
    """Mean scores, in units of `unit`, and the smallest margins; `scores` maps record keys to names.

    `ladder`: the nodes that --quadrature auto tries in turn; α = 1 is one of each rule's, and free.
    """

    def __init__(self, scores: dict[str, str], near_tie: float, unit: str, ladder: Sequence[int] = ()):
        super().__init__()
        self.scores, self.unit, self.ladder = scores, unit, ladder
        self.near_tie, self.near_ties = near_tie, 0
        self.sums = dict.fromkeys(scores, 0.0)
        self.drops: dict[str, float] = {}  # by the key of the score
        self.smallest: list[tuple[float, int, str]] = []  # |margin|, layer, image
        self.layers = self.capped = self.scored = self.deepest = 0  # of shortlists
        self.nodes = self.diverged = 0  # of --quadrature auto
        self.beams = self.better = self.worse = 0  # of --search beam: images
        self.greedy = 0.0

    def add(self, record: dict) -> None:
        super().add(record)
        if "search_stopped" in record:
            self.layers += len(record["search_stopped"])
            self.capped += record["search_stopped"].count("cap")
            self.scored += sum(record["search_scored"])
            self.deepest = max(self.deepest, *record["search_rank"])
        if "nodes" in record:
            self.nodes += sum(n - 1 for n in self.ladder if n <= record["nodes"])
            self.diverged += record["converged"] is False
        if "greedy_score" in record:
            self.beams += 1
            self.greedy += record["greedy_score"]
            self.better += record["ja_score"] > record["greedy_score"]
            self.worse += record["ja_score"] < record["greedy_score"]
        for key in self.sums:
            self.sums[key] += record[key]
            drop = key.replace("_score", "_drop")  # of path/joint_attr_heads.py
            if drop in record:
                self.drops[key] = self.drops.get(key, 0.0) + record[drop]
        margin, layer = min((abs(margin), layer) for layer, margin in enumerate(record["margin"]))
        self.near_ties += margin < self.near_tie
        self.smallest = sorted([*self.smallest, (margin, layer, record["image"])])[:3]

    def mean(self, key: str) -> float:
        return self.sums[key] / self.images if self.images else float("nan")

    def running(self) -> str:
        return f"mean JAS {self.mean(next(iter(self.scores))):.4f}"

    def lines(self) -> list[tuple[str, str]]:
        scores = " · ".join(f"{name} {self.mean(key):.4f}" for key, name in self.scores.items())
        smallest = ", ".join(f"{m:.1e} (layer {layer} of {printable(image)})" for m, layer, image in self.smallest)
        margins = f"smallest {smallest}; {self.near_ties} images below {self.near_tie:g}"
        return [
            *super().lines(),
            ("mean JAS", f"{scores}, in units of {self.unit}"),
            *self._drop_lines(),
            ("margins", margins),
            *self._search_lines(),
        ]

    def _drop_lines(self) -> list[tuple[str, str]]:
        drops = " · ".join(f"{self.scores[key]} {drop / self.images:.4f}" for key, drop in self.drops.items())
        return [("F(1) - F(0)", f"{drops}, its layers clamped")] if drops else []

    def _search_lines(self) -> list[tuple[str, str]]:
        lines = []
        if self.beams:
            share = f"the beam's path scores higher in {self.better} images, lower in {self.worse}"
            lines.append(("greedy path", f"{self.greedy / self.beams:.4f}, {share}"))
        if self.layers:
            met = f"rule met in {100 * (1 - self.capped / self.layers):.1f} % of {self.layers} layers"
            mean = f"{self.scored / self.layers:.1f} candidates scored on average"
            lines.append(("shortlist", f"{met}, {mean}, chosen ones ranked {self.deepest} at the lowest"))
        if self.nodes:
            mean = f"{self.nodes / self.images:.2f} below α = 1 per image, repeats included"
            lines.append(("nodes", f"{mean}; {self.diverged} images found another path even with {self.ladder[-1]}"))
        return lines


class EditSummary(Summary):
    """Accuracy and mean probability of the label before and after each of `operations`, keys of the records."""

    def __init__(self, operations: tuple[str, ...]):
        super().__init__()
        self.prob = dict.fromkeys(("original", *operations), 0.0)
        self.right = dict.fromkeys(("original", *operations), 0)
        self.match = Match()

    def add(self, record: dict) -> None:
        super().add(record)
        for key in self.prob:
            self.prob[key] += record[key]
            self.right[key] += record[f"{key}_label"] == record["label"]
        self.match.add(record.get("control_ratio", []))

    def running(self) -> str:
        return "top-1 " + " → ".join(f"{100 * right / max(1, self.images):.1f}" for right in self.right.values()) + " %"

    def lines(self) -> list[tuple[str, str]]:
        n = self.images
        lines = [
            (key, f"top-1 {100 * self.right[key] / n:.2f} %, p of the label {p / n:.4f}")
            for key, p in self.prob.items()
        ]
        match = self.match.found()
        return lines + ([("control", f"its units write {match_words(**match)}")] if match else [])
