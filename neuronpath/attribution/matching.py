"""How well the matched control matches (docs/method.md §5). Without PyTorch."""

from dataclasses import dataclass

WITHIN = 0.1  # of a path unit's weight: how far from it that of a control's unit may be


@dataclass
class Match:
    """How well drawn units match, over the `weight_ratios` of many images."""

    total: float = 0.0
    near: int = 0
    count: int = 0

    def add(self, ratios: list[list[float]]) -> None:
        """Those of one image."""
        for ratio in (ratio for layer in ratios for ratio in layer):
            self.total, self.count = self.total + ratio, self.count + 1
            self.near += abs(ratio - 1) <= WITHIN + 1e-9

    def found(self) -> dict[str, float] | None:
        """Their mean, `ratio`, and the share from 0.9 to 1.1, `within`; None where there is none."""
        return {"ratio": self.total / self.count, "within": self.near / self.count} if self.count else None


def match_words(ratio: float, within: float) -> str:
    """What `Match.found` says, behind "the control's units write"."""
    return f"{ratio:.2f} times what the path's do, {100 * within:.0f} % of them within 10 %"
