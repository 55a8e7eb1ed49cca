"""How the threads of PyTorch wait for each other, chosen before it is imported.

OpenMP's threads spin while they wait, which is fastest on a quiet machine. Beside other busy processes a spinning
thread takes the core from the one it waits for: docs/speed.md has the figures. The user's own settings stand.
"""

import os
import sys
import time
import warnings
from collections.abc import Mapping, MutableMapping
from pathlib import Path

#: Whoever sets one of these has chosen; OMP_NUM_THREADS alone is what torchrun sets for its processes.
CHOSEN = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS", "KMP_BLOCKTIME")
SPINS = "1000"
BUSY = 0.25  # share of the cores that other processes use
SECONDS = 0.1  # for which they are watched


def settle_threads(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let threads wait without spinning where the machine is busy, and keep to a container's limit of CPUs.

    Says so in a warning. Does nothing where PyTorch is imported already, or the user has chosen.
    """
    if "torch" in sys.modules or chosen(environment):
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = cpu_limit()
    if limit and limit < cores:
        environment["OMP_NUM_THREADS"] = count = str(max(1, round(limit)))
        warnings.warn(f"this container may use {limit:g} of {cores} cores: OMP_NUM_THREADS={count}", stacklevel=2)
    busy = busy_share()
    if busy >= BUSY:
        environment["GOMP_SPINCOUNT"] = SPINS
        warnings.warn(
            f"other processes use {100 * busy:.0f} % of the cores: threads wait without spinning "
            f"(GOMP_SPINCOUNT={SPINS})",
            stacklevel=2,
        )


def chosen(environment: Mapping[str, str]) -> bool:
    return any(name in environment for name in CHOSEN)


def cpu_limit(file: Path = Path("/sys/fs/cgroup/cpu.max")) -> float | None:
    """How many CPUs a container may use, None where nothing limits it or says so."""
    try:
        quota, period = file.read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def busy_share() -> float:
    """The share of the machine's cores, 0 to 1, that other processes use; 0 where nothing tells.

    The load average lags behind by a minute: where it is low nobody waits; where it is high the cores are watched.
    """
    try:
        if os.getloadavg()[0] < BUSY * (os.cpu_count() or 1):
            return 0.0
        before = _ticks()
        time.sleep(SECONDS)
        idle, total = (now - then for now, then in zip(_ticks(), before, strict=True))
        return max(0.0, 1 - idle / total) if total else 0.0
    except (OSError, ValueError):
        return 0.0


def _ticks() -> tuple[int, int]:
    """Of all cores since the machine was started: idle, waiting for disks included, and in all."""
    with Path("/proc/stat").open() as file:
        ticks = [int(word) for word in file.readline().split()[1:]]
    return ticks[3] + ticks[4], sum(ticks[:8])
