"""What the job of top images computes: how active every unit is in each image, gathered as it goes."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

from torch import Tensor

from ..attribution.activations import unit_activations
from ..errors import NonFiniteError
from ..files import Item
from ..records.store import Store
from ..records.top_store import TopStore, file_of, parts_of
from .ablation import digest
from .run import Inputs, Plan, Run
from .summary import Summary


class TopSummary(Summary):
    def running(self) -> str:
        return f"top-1 {100 * self.correct / max(1, self.images):.1f} %"

    def written(self, directory: Path, prefix: str) -> tuple[str, str]:
        file = file_of(directory, prefix)
        if parts_of(directory, prefix).exists():
            return "file", f"{file} is not written yet: it waits for images that no process has done"
        return "file", str(file)


@dataclass(frozen=True, kw_only=True)
class TopPlan(Plan):
    """`group`: of each item the images that it is computed with: `--batch_size` neighbours of one class.

    A group does not depend on what other classes this process has, nor on where an earlier run stopped: an activation
    depends in its last digits on what else is in the batch.
    """

    group: dict[Item, tuple[int, int]]

    def groups(self, pending: list[Item]) -> list[list[Item]]:
        return [list(items) for _, items in groupby(pending, self.group.__getitem__)]

    def open_store(self, run: Run, kind: Callable[..., Store] = TopStore) -> Store:
        share, model = self.inputs.options.share, self.inputs.model
        more = {
            "chosen": self.inputs.chosen,
            "groups": self.group,
            "process": (share.index, share.count),
            "shape": (model.config.depth, model.config.mlp_dim),
            "several": model.num_neuron_tokens > 1,
        }
        return super().open_store(run, partial(kind, **more))

    def records(self, items: list[Item], images: Tensor, rows: int) -> list[dict]:
        """Not written as they are: `TopStore` takes in `pred`, and `value`, `mean` and `token`, (L, H) each."""
        model = self.inputs.model
        found = unit_activations(model, images, internal_batch_size=rows)
        finite = found.highest.isfinite() & found.mean.isfinite()
        if len(bad := (~finite).flatten(1).any(1).nonzero()):
            raise NonFiniteError(int(bad[0].item()), "activations")
        arrays = {"value": found.highest.cpu().numpy(), "mean": found.mean.cpu().numpy()}
        if model.num_neuron_tokens > 1:
            arrays["token"] = found.token.cpu().numpy()
        pred = found.logits.argmax(-1).tolist()
        return [{"pred": pred[b], **{name: array[b] for name, array in arrays.items()}} for b in range(len(items))]

    def summary(self) -> TopSummary:
        return TopSummary()


def plan_top_images(inputs: Inputs) -> TopPlan:
    size, before, group = inputs.options.batch_size, Counter[int](), dict[Item, tuple[int, int]]()
    for item in inputs.items:
        group[item] = item.label, before[item.label] // size
        before[item.label] += 1
    settings = {"images": digest(inputs.chosen)}
    return TopPlan(inputs=inputs, items=inputs.items, keys=(), settings=settings, group=group)
