"""Several processes on one job: which labels this one computes.

The launcher's environment decides (torchrun, srun), or `--shard` by hand; both together multiply. Every label has one
process, hence every record file one writer, and nothing is merged. The processes never speak to each other.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from ..errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """Part `index` of `count`; `local` numbers the processes of this machine, `launcher` started them.

    `speaks`: whether this process shows progress and results; of those that a launcher started, the first does.
    """

    index: int = 0
    count: int = 1
    local: int = 0
    launcher: str = ""  # "torchrun", "srun" or ""
    speaks: bool = field(default=True, compare=False)

    def of(self, labels: Sequence[T]) -> list[T]:
        """Every `count`-th of `labels`."""
        return list(labels[self.index :: self.count])


def share(shard: tuple[int, int] = (0, 1), environment: Mapping[str, str] = os.environ) -> Share:
    """This process's share. UserError where the environment contradicts itself."""
    launched = _launched(environment)
    part, parts = shard
    index, count = part * launched.count + launched.index, parts * launched.count
    return replace(launched, index=index, count=count)


def _launched(environment: Mapping[str, str]) -> Share:
    if "RANK" in environment and "WORLD_SIZE" in environment:
        return _read(environment, "torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK")
    # An sbatch script itself has SLURM_PROCID too: only what srun starts has a step.
    if "SLURM_STEP_ID" in environment and environment.get("SLURM_NTASKS", "1") != "1":
        return _read(environment, "srun", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")
    return Share()


def _read(environment: Mapping[str, str], launcher: str, *names: str) -> Share:
    given = ", ".join(f"{name}={environment.get(name)}" for name in names)
    try:
        index, count, local = (int(environment.get(name, 0)) for name in names)
    except ValueError:
        index, count, local = 0, 0, 0
    if not 0 <= index < count or local < 0:
        raise UserError(f"the environment's {given} are no process of several; unset them, or start with {launcher}")
    return Share(index, count, local, launcher if count > 1 else "", speaks=index == 0)
