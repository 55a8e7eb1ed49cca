"""How long and how much: durations in words, and seconds scaled from one call of each job."""

import resource
from types import SimpleNamespace

import pytest
import torch
from helpers import random_model, tiny_config

from neuronpath import Quadrature
from neuronpath.runs import estimate
from neuronpath.runs.estimate import duration, machine_memory, peak_memory, seconds_per_image


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"), (59, "59 s"), (119.4, "119 s"), (120, "2 min"), (3599, "60 min"), (3600, "1.0 h"),
        (18000, "5.0 h"), (172799, "48.0 h"), (172800, "2.0 days"), (267840, "3.1 days"),
    ],
)  # fmt: skip
def test_durations_in_the_unit_that_says_most(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_seconds_are_per_image_and_scaled_to_the_nodes(monkeypatch, pool):
    """Every search takes 3 s for 4 images and one node; 20 forwards are all the edits, 9.6 per image the pruning."""
    model = random_model(tiny_config(pool, depth=2))
    ran = []
    monkeypatch.setattr(estimate, "seconds", lambda run, device: ran.append(run()) or 3.0)
    found = seconds_per_image(model, 20, 4)
    searches = {"joint_attr": 20 * 3 / 4, "influence_pattern": 20 * 3 / 4, "edit": 20 * 3 / 4 / 3}
    pruning = {"top-5 joint_attr": 20 * 3 / 4, "pruning": 9.6 * 3 / 4 / 3}
    assert found == pytest.approx(searches | (pruning if pool == "cls" else {}))
    assert len(ran) == 6  # each twice
    assert [len(ran[i].path) for i in range(4)] == [4] * 4
    assert [len(x) for x in ran[4]] == [4] * 3
    assert found.keys() == (searches | (pruning if pool == "cls" else {})).keys()


def test_the_rule_that_is_timed_and_the_rows_are_given_on(monkeypatch):
    asked = []

    def search(model, x, y, rule, internal_batch_size):
        asked.append((len(x), rule, internal_batch_size))

    for name in ("find_path", "influence_path"):
        monkeypatch.setattr(estimate, name, search)
    seconds_per_image(random_model(tiny_config(depth=2)), 20, 3, Quadrature("left", 4), 5)
    assert asked == [(3, Quadrature("left", 4), 5)] * 4
    asked.clear()
    seconds_per_image(random_model(tiny_config(depth=2)), 20)
    assert asked == [(2, Quadrature("midpoint", 1), None)] * 4


@pytest.mark.parametrize(("times", "runs", "counted"), [([4.9, 2.0], 2, 2.0), ([5.1], 1, 5.1), ([5.0, 1.0], 2, 1.0)])
def test_what_takes_more_than_5_seconds_is_timed_once(monkeypatch, times, runs, counted):
    clock = []
    monkeypatch.setattr(estimate, "seconds", lambda run, device: clock.append(times[len(clock) % runs]) or clock[-1])
    found = seconds_per_image(random_model(tiny_config("mean", depth=2)), 1, 1)
    assert len(clock) == 3 * runs
    assert found["joint_attr"] == counted


def test_memory_is_of_this_process_and_machine_or_of_the_gpu(monkeypatch):
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 1)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert used <= peak_memory(cpu) < used + 2**24
    total = int(next(line for line in open("/proc/meminfo") if line.startswith("MemTotal")).split()[1])  # noqa: SIM115, PTH123
    assert machine_memory(cpu) == pytest.approx(total * 1024, rel=0.1)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 1000 + device.index)
    properties = SimpleNamespace(total_memory=5)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    assert (peak_memory(gpu), machine_memory(gpu)) == (1001, 5)
