"""Pictures and runs that several tests share, and the share of the machine that a worker of
pytest-xdist gets."""

import atexit
import gc
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from tests.made_recipe import SHORT
from tests.slow_tests import SLOW, SLOW_FIXTURES

# before torch is imported: threads that spin while they wait slow every other process of the
# machine down
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# what a user keeps must neither change a test nor be changed by one; a worker has that of the first
# process
if "ZOOTUNE_TESTS" not in os.environ:
    home = tempfile.mkdtemp(prefix="zootune-tests-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ["ZOOTUNE_TESTS"] = os.environ["ZOOTUNE_HOME"] = home

# until all tests are collected: imports leave no garbage, and looking for it takes four seconds
gc.disable()

if "PYTEST_XDIST_WORKER" in os.environ and hasattr(os, "sched_setaffinity"):
    # the cores are dealt out, so that the workers' threads, and the processes that tests start, do
    # not compete
    cores, worker = (
        sorted(os.sched_getaffinity(0)),
        int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw")),
    )
    own = cores[worker :: int(os.environ["PYTEST_XDIST_WORKER_COUNT"])] or [
        cores[worker % len(cores)]
    ]
    os.sched_setaffinity(0, own)

MEMORY = Path("/dev/shm")
NEEDED_BYTES = 8 << 30
"""Free memory from which on tests have their folders there."""


def in_memory() -> bool:
    """Whether folders of tests may lie in memory, where nothing waits for a disk."""
    if not os.access(MEMORY, os.W_OK) or shutil.disk_usage(MEMORY).free < NEEDED_BYTES:
        return False
    if os.statvfs(MEMORY).f_flag & os.ST_NOEXEC:  # some tests run a script of theirs
        return False
    return psutil.virtual_memory().available >= NEEDED_BYTES


if "PYTEST_XDIST_WORKER" not in os.environ and in_memory():  # workers take the folder they are told
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


@pytest.fixture
def tmp_path(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """pytest's, removed after the test where it takes memory, unless the test fails."""
    failed = request.session.testsfailed
    yield tmp_path
    if MEMORY in tmp_path.parents and request.session.testsfailed == failed:
        shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the list, before pytest looks which of them are asked for."""
    here = Path(__file__).parent
    for item in items:
        file = item.path.relative_to(here).as_posix()
        name = item.originalname if isinstance(item, pytest.Function) else item.name
        fixtures = set(getattr(item, "fixturenames", ()))
        if name in SLOW.get(file, ()) or fixtures.intersection(SLOW_FIXTURES.get(file, ())):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """What is imported by now stays: no collection of garbage looks through its million objects,
    and no fork copies them for it. Between two collections a trace of a network makes so many
    objects that with Python's own threshold of 700 they take a twentieth of its time."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers have together; what one writes there, under a lock, the others
    take."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def digits(shared: Path) -> Path:
    """100 training, 40 validation and 40 test pictures of the digits sample, in 10 classes. Not to
    be changed."""
    from tests.made_base import made_digits

    folder = shared / "sample" / "digits"
    with FileLock(shared / "sample.lock"):
        return folder if folder.exists() else made_digits(folder)


@pytest.fixture(scope="session")
def finished_run(digits: Path, shared: Path) -> Path:
    """A finished run on these digits: EfficientNet-Lite0 at 32 px, 2 epochs. Copy it before
    changing it."""
    from finetune.pipeline import start
    from finetune.recipe.run import Run
    from zoo.contract import rundir

    out = shared / "runs" / "digits"
    with FileLock(shared / "runs.lock"):
        if not rundir.is_finished(out):
            with redirect_stdout(io.StringIO()) as printed:
                start(Run(data=str(digits), out=out, device="cpu"), SHORT)
            (shared / "printed by the run.txt").write_text(printed.getvalue(), encoding="utf-8")
    return out


@pytest.fixture(scope="session")
def printed_by_finished_run(finished_run: Path, shared: Path) -> str:
    """What the command that made the finished run printed."""
    return (shared / "printed by the run.txt").read_text(encoding="utf-8")


@pytest.fixture
def run_copy(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, of the same name, that a test may change."""
    return Path(shutil.copytree(finished_run, tmp_path / "copy" / finished_run.name))


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run to start from; see `made_base`."""
    from tests.made_base import made_base

    return made_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture(scope="session")
def tiny_run(digits: Path, tiny_base: Path, shared: Path) -> Path:
    """A finished run on these digits: the linear probe on the tiny base, made as `quick_fit`
    says."""
    from finetune.pipeline import start
    from finetune.recipe.run import Run
    from tests.made_base import fit_quickly
    from zoo.contract import rundir

    out = shared / "runs" / "tiny digits"
    with FileLock(shared / "tiny.lock"), pytest.MonkeyPatch.context() as patch:
        if not rundir.is_finished(out):
            fit_quickly(patch)
            start(
                Run(data=str(digits), base=str(tiny_base), out=out, device="cpu"),
                {"probe_only": True, "features": "fp32", "threads": 1},
            )
    return out


@pytest.fixture
def quick_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The linear probe has one penalty, and runs end with 8 foreign pictures of each set: for tests
    that look at neither."""
    from tests.made_base import fit_quickly

    fit_quickly(monkeypatch)


@pytest.fixture
def quick_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `quick_fit`, and runs end without report.html: for tests that do not look at it."""
    from tests.made_base import end_quickly

    end_quickly(monkeypatch)
