"""Cores by affinity and control groups, threads by OMP_NUM_THREADS; and that all parts of the
program count alike."""

import os
from pathlib import Path

import pytest

from finetune.machine import device
from serve.engine.answer_queue import MAX_WORKERS, default_workers
from zoo.host import machine


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine of 16 cores, all of them allowed, and a folder to write control groups into."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(machine, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "OWN", tmp_path / "own")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/", {"cpu.max": "200000 100000"}, 2),  # docker run --cpus 2, seen from inside
        ("0::/", {"cpu.max": "150000 100000"}, 2),
        ("0::/", {"cpu.max": "1000 100000"}, 1),
        ("0::/", {"cpu.max": "max 100000"}, 16),
        ("0::/", {}, 16),
        ("0::/", {"cpu.max": "6400000 100000"}, 16),
        # of the group above it
        ("0::/a/b", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),
        ("0::/a/b", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "200000 100000"}, 2),
        ("0::/elsewhere", {"cpu.max": "400000 100000"}, 4),
        (
            "4:cpu,cpuacct:/docker/1",
            {"cpu,cpuacct/cpu.cfs_quota_us": "250000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            3,
        ),
        ("4:cpu:/\n0::/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 16),
        ("3:cpuset:/a", {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 16),
        ("0::/../../x", {"cpu.max": "100000 100000"}, 16),
        ("nonsense", {"cpu.max": "words and more"}, 16),
        ("0::/", {"cpu.max": "100000 0"}, 16),
    ],
)
def test_cores_are_those_of_affinity_and_of_every_group(
    cores: Path, own: str, files: dict[str, str], expected: int
) -> None:
    (cores / "own").write_text(own + "\n")
    for name, content in files.items():
        (cores / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (cores / "cgroup" / name).write_text(content + "\n")
    assert machine.cpu_cores() == machine.compute_threads() == expected
    assert device.cpu_cores() == device.compute_threads() == expected
    assert default_workers() == min(expected, MAX_WORKERS)
    assert machine.library_threads() == (0 if expected == 16 else expected)


@pytest.mark.usefixtures("cores")
@pytest.mark.parametrize(
    ("text", "threads"), [("3", 3), ("3,2", 3), ("64", 16), ("0", 16), ("", 16), ("many", 16)]
)
def test_omp_num_threads_limits_what_computes_and_not_what_decodes(
    monkeypatch: pytest.MonkeyPatch, text: str, threads: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert (machine.cpu_cores(), machine.compute_threads(), device.compute_threads()) == (
        16,
        threads,
        threads,
    )
    assert machine.library_threads(5) == 5


def test_a_machine_without_control_groups_or_affinity(
    cores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not (cores / "own").exists()
    assert machine.cpu_cores() == 16
    monkeypatch.delattr(os, "sched_getaffinity")
    assert machine.cpu_cores() == 16


@pytest.mark.usefixtures("cores")
def test_processes_of_one_run_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device.distributed, "world", lambda: 4)
    monkeypatch.setattr(device.distributed, "on_this_machine", lambda: (0, 4))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which torchrun sets where nobody did
    assert (device.cpu_cores(), device.compute_threads()) == (4, 4)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert device.compute_threads() == 2


@pytest.mark.usefixtures("cores")
def test_the_number_of_processes_that_decode_is_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(192)), raising=False)
    assert device.decoders(-1, torch.device("cuda")) == device.MOST_DECODERS < 192
    assert device.decoders(-1, torch.device("cpu")) == 0
    assert device.decoders(30, torch.device("cuda")) == 30
