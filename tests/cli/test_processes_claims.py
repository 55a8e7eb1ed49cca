"""Which labels a process computes, and whether it speaks."""

import pytest

from neuronpath.cli.processes import Share, share
from neuronpath.errors import UserError

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "3"}
NONE = "are no process of several; unset them, or start with"
SRUN = {"SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_NTASKS": "4", "SLURM_LOCALID": "3"}


def test_every_so_many_th_label():
    """Neighbours, which may have more images than others, are of different processes."""
    assert [Share(i, 3).of([2, 3, 5, 7, 11, 13, 17]) for i in range(3)] == [[2, 7, 17], [3, 11], [5, 13]]
    assert Share().of((1, 2)) == [1, 2]


@pytest.mark.parametrize(
    ("environment", "shard", "found"),
    [
        ({}, (0, 1), (0, 1, 0, "", True)),
        ({}, (2, 5), (2, 5, 0, "", True)),
        (TORCHRUN, (0, 1), (1, 4, 3, "torchrun", False)),
        (TORCHRUN | {"RANK": "0"}, (0, 1), (0, 4, 3, "torchrun", True)),
        (TORCHRUN | {"RANK": "0"}, (2, 3), (8, 12, 3, "torchrun", True)),
        (TORCHRUN, (2, 3), (9, 12, 3, "torchrun", False)),
        ({"RANK": "0", "WORLD_SIZE": "1"}, (1, 2), (1, 2, 0, "", True)),
        ({"RANK": "1", "WORLD_SIZE": "2"}, (0, 1), (1, 2, 0, "torchrun", False)),
        ({"RANK": "1"}, (0, 1), (0, 1, 0, "", True)),
        ({"WORLD_SIZE": "4"}, (0, 1), (0, 1, 0, "", True)),
        (SRUN, (0, 1), (1, 4, 3, "srun", False)),
        (SRUN | {"SLURM_PROCID": "0"}, (0, 1), (0, 4, 3, "srun", True)),
        ({k: v for k, v in SRUN.items() if k != "SLURM_STEP_ID"}, (0, 1), (0, 1, 0, "", True)),
        (SRUN | {"SLURM_NTASKS": "1", "SLURM_PROCID": "5"}, (0, 1), (0, 1, 0, "", True)),
        ({"SLURM_STEP_ID": "0", "SLURM_PROCID": "5"}, (0, 1), (0, 1, 0, "", True)),
        (SRUN | TORCHRUN | {"RANK": "2"}, (0, 1), (2, 4, 3, "torchrun", False)),
    ],
)
def test_the_launcher_and_the_shard_multiply_and_the_first_speaks(environment, shard, found):
    one = share(shard, environment)
    assert (one.index, one.count, one.local, one.launcher, one.speaks) == found


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (TORCHRUN | {"RANK": "4"}, f"RANK=4, WORLD_SIZE=4, LOCAL_RANK=3 {NONE} torchrun"),
        (TORCHRUN | {"LOCAL_RANK": "-1"}, "LOCAL_RANK=-1 are"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "RANK=0, WORLD_SIZE=0, LOCAL_RANK=None are"),
        ({"RANK": "x", "WORLD_SIZE": "1"}, "RANK=x"),
        (SRUN | {"SLURM_PROCID": "-1"}, f"SLURM_PROCID=-1, SLURM_NTASKS=4, SLURM_LOCALID=3 {NONE} srun"),
    ],
)
def test_a_contradiction_is_named(environment, said):
    with pytest.raises(UserError) as caught:
        share((0, 1), environment)
    assert str(caught.value).startswith("the environment's ")
    assert said in str(caught.value)


def test_the_processs_own_environment_is_the_default(monkeypatch):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    assert share() == share((0, 1)) == Share(1, 4, 3, "torchrun")
