"""How threads wait, settled before PyTorch is imported: when, with which variables, and what is said of it."""

import os
import sys
import warnings

import pytest

from neuronpath.cli import threads
from neuronpath.cli.threads import CHOSEN, busy_share, cpu_limit, settle_threads


@pytest.fixture
def machine(monkeypatch):
    """One of eight cores without PyTorch; `machine(limit, busy)` gives the variables set, and `machine.warned`."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)

    def machine(limit=None, busy=0.0, **given) -> dict[str, str]:
        monkeypatch.setattr(threads, "cpu_limit", lambda: limit)
        monkeypatch.setattr(threads, "busy_share", lambda: busy)
        environment = dict(given)
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            settle_threads(environment)
        machine.warned = [str(w.message) for w in found]
        assert environment | given == environment, "what was there stays"
        return {name: value for name, value in environment.items() if name not in given}

    return machine


class TestSettling:
    def test_a_quiet_machine_is_left_alone(self, machine):
        assert machine() == machine(busy=0.2499) == machine(8.0) == machine(16.0) == {}
        assert machine.warned == []

    @pytest.mark.parametrize(("busy", "percent"), [(0.25, 25), (0.517, 52), (1.0, 100)])
    def test_beside_busy_processes_threads_do_not_spin(self, machine, busy, percent):
        assert machine(busy=busy) == {"GOMP_SPINCOUNT": "1000"}
        assert machine.warned == [
            f"other processes use {percent} % of the cores: threads wait without spinning (GOMP_SPINCOUNT=1000)"
        ]

    @pytest.mark.parametrize(
        ("limit", "count", "words"), [(2.0, "2", "2"), (1.75, "2", "1.75"), (0.25, "1", "0.25"), (7.9, "8", "7.9")]
    )
    def test_a_containers_limit_is_kept_to(self, machine, limit, count, words):
        assert machine(limit) == {"OMP_NUM_THREADS": count}
        assert machine.warned == [f"this container may use {words} of 8 cores: OMP_NUM_THREADS={count}"]

    def test_both(self, machine):
        assert machine(3.0, 0.5) == {"OMP_NUM_THREADS": "3", "GOMP_SPINCOUNT": "1000"}
        assert len(machine.warned) == 2
        assert all("\n" not in line for line in machine.warned)

    @pytest.mark.parametrize("name", ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS", "KMP_BLOCKTIME"])
    def test_who_has_chosen_is_not_asked(self, machine, name):
        assert machine(1.0, 1.0, **{name: "x"}) == {}
        assert machine.warned == []
        assert machine(1.0, 1.0, OTHER="x") != {}

    def test_with_pytorch_it_is_too_late(self, machine, monkeypatch):
        monkeypatch.setitem(sys.modules, "torch", object())
        assert machine(1.0, 1.0) == {}
        assert machine.warned == []

    def test_cores_are_counted_where_nothing_tells_which_are_ours(self, machine, monkeypatch):
        monkeypatch.delattr(os, "sched_getaffinity")
        monkeypatch.setattr(os, "cpu_count", lambda: 3)
        assert machine(3.0) == {}
        assert machine(2.0) == {"OMP_NUM_THREADS": "2"}
        assert machine.warned == ["this container may use 2 of 3 cores: OMP_NUM_THREADS=2"]

    def test_the_variables_are_this_processs_own(self, machine, monkeypatch):
        for name in CHOSEN:
            monkeypatch.setenv(name, "restored after the test")
            monkeypatch.delenv(name)
        machine(2.0, 1.0)
        with pytest.warns(UserWarning, match="OMP_NUM_THREADS=2|GOMP_SPINCOUNT=1000"):
            settle_threads()
        assert (os.environ["OMP_NUM_THREADS"], os.environ["GOMP_SPINCOUNT"]) == ("2", "1000")


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("max 100000\n", None),
        ("150000 100000\n", 1.5),
        ("50000 100000\n", 0.5),
        ("", None),
        ("100000\n", None),
        ("a b\n", None),
        ("100000 0\n", None),
    ],
)
def test_the_limit_of_a_container(tmp_path, text, limit):
    (tmp_path / "cpu.max").write_text(text)
    assert cpu_limit(tmp_path / "cpu.max") == limit


def test_without_a_file_there_is_no_limit(tmp_path):
    assert cpu_limit(tmp_path / "cpu.max") is None
    assert cpu_limit(tmp_path) is None


class TestBusy:
    @pytest.fixture(autouse=True)
    def cores(self, monkeypatch):
        monkeypatch.setattr(os, "cpu_count", lambda: 4)

    @pytest.fixture
    def watched(self, monkeypatch, tmp_path):
        """The share where the load average is high and /proc/stat says this, and a moment later that."""

        def watched(*lines: str) -> float:
            files = []
            for i, line in enumerate(lines):
                files.append(tmp_path / str(i))
                files[-1].write_text(f"cpu  {line}\ncpu0 1 2 3 4 5 6 7 8 9 10\n")
            watched.slept = []
            monkeypatch.setattr(threads.time, "sleep", watched.slept.append)
            monkeypatch.setattr(threads, "Path", lambda name: files.pop(0) if name == "/proc/stat" else None)
            monkeypatch.setattr(os, "getloadavg", lambda: (1.0, 0.0, 0.0))
            return busy_share()

        return watched

    def test_a_low_load_average_is_believed_at_once(self, monkeypatch):
        monkeypatch.setattr(os, "getloadavg", lambda: (0.99, 9.0, 9.0))
        monkeypatch.setattr(threads.time, "sleep", lambda _: pytest.fail("nobody waits"))
        assert busy_share() == 0

    def test_a_high_one_is_watched_for_a_moment(self, watched):
        """Idle and waiting for disks: 40 + 20 of 100 ticks; a guest's are among the user's already."""
        assert watched("10 10 10 100 50 5 5 10 70 70", "30 15 20 140 70 7 7 11 99 99") == pytest.approx(0.4)
        assert watched.slept == [0.1]

    def test_all_idle_all_busy_and_no_tick_at_all(self, watched):
        before = "10 10 10 100 50 5 5 10 0 0"
        assert watched(before, "10 10 10 150 50 5 5 10 0 0") == 0
        assert watched(before, "60 10 10 100 50 5 5 10 0 0") == 1
        assert watched(before, before) == 0
        assert watched(before, "0 10 10 150 50 5 5 10 0 0") == 0, "counters may run back"

    def test_where_nothing_tells(self, monkeypatch, watched):
        assert watched("not numbers", "at all") == 0

        def unknown():
            raise OSError("load average was unobtainable")

        monkeypatch.setattr(os, "getloadavg", unknown)
        assert busy_share() == 0
