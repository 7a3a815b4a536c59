"""How much of this machine the program may use. Training, export and service count alike."""

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
MOST_THREADS = 1024
"""Of one operation: more cores than a machine has that runs one model."""


def cpu_cores() -> int:
    """CPU cores that this process may use, at least 1: by its affinity (taskset, Slurm), and by the
    quota of its control groups (docker run --cpus, limits of Kubernetes), which is rounded up."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # Windows and macOS lack it
        cores = len(os.sched_getaffinity(0))
    quota = cpu_quota()
    if quota is None:
        return cores
    return max(1, min(cores, math.ceil(quota)))


def compute_threads() -> int:
    """Threads for computing: one a core, or as many as OMP_NUM_THREADS says where that is fewer."""
    # "4,2" is for nested regions
    text = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if not text.isdecimal() or not int(text):
        return cpu_cores()
    return min(cpu_cores(), int(text))


def library_threads(wanted: int = 0) -> int:
    """The number for a library that counts cores by itself: `wanted` where it is not 0, else what
    limits this process.

    0, its own count, where nothing does: it knows which cores are only halves of one.
    """
    limit = wanted or compute_threads()
    if not wanted and limit == os.cpu_count():
        return 0
    return limit


def cpu_quota() -> float | None:
    """Seconds of computing that the control groups allow in each second; None where they set no
    limit.

    The least of this process's group and all groups above it, as far as they can be seen: inside a
    container its own group stands at the root. Version 2 says "200000 100000" in cpu.max, version 1
    the same in two files.
    """
    found: list[float] = []
    for controllers, group in _own_groups():
        if not controllers:
            roots, read = [CGROUPS], _quota_2
        elif "cpu" in controllers.split(","):
            roots, read = [CGROUPS / controllers, CGROUPS / "cpu"], _quota_1
        else:
            continue
        for root in roots:
            for place in (root / group, *(root / group).parents):
                quota = read(place) if place.is_relative_to(root) else None
                if quota is not None:
                    found.append(quota)
    return min(found, default=None)


def _own_groups() -> list[tuple[str, str]]:
    """(controllers, path without its first slash) of each group of this process; controllers are
    empty in version 2."""
    try:
        lines = OWN.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    groups = []
    for line in lines:
        _, colon, rest = line.partition(":")
        controllers, second_colon, path = rest.partition(":")
        if colon and second_colon and ".." not in path.split("/"):
            groups.append((controllers, path.strip("/")))
    return groups


def _quota_2(place: Path) -> float | None:
    return _share(_words(place / "cpu.max"))


def _quota_1(place: Path) -> float | None:
    return _share([*_words(place / "cpu.cfs_quota_us"), *_words(place / "cpu.cfs_period_us")])


def _share(words: list[str]) -> float | None:
    """Quota by period; None for "max", -1 and whatever else is no limit."""
    if len(words) != 2 or not all(word.isdecimal() for word in words) or not int(words[1]):
        return None
    return int(words[0]) / int(words[1]) or None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return []
