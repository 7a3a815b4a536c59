"""`python -m export.bench BUNDLE...`: latency, throughput, load time and memory of exported models.
No torch.

Each bundle runs in a process of its own. The numbers go to its `timing.json` and into one table.
"""

import multiprocessing
import platform
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from zoo.answer import onnx_runtime
from zoo.comparison.plot_text import plain_text, short
from zoo.contract import bundle as bundles
from zoo.contract import figures, rundir
from zoo.host import console, disk, machine
from zoo.host.errors import UserError, first_line, run_main
from zoo.picture.opened import MAX_PIXELS

BATCHES = (1, 8, 32)
LEAST_RUNS, LEAST_SECONDS = 10, 1.0
"""Each batch size is run at least this often and this long."""


@dataclass(frozen=True)
class BenchOptions:
    """What to measure, and how."""

    bundles: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Bundle folders, or run folders that have one."""
    height: int = 300
    """Of the pictures, in pixels."""
    width: int = 400
    """Of the pictures, in pixels."""
    provider: Literal["auto", "cpu", "cuda"] = "auto"
    """Where ONNX Runtime computes; cuda that cannot be had is an error."""
    threads: int = 0
    """CPU threads of one operation; 0 is one per core."""
    picture: Path | None = None
    """Also draw the table as this .png or .svg."""

    def __post_init__(self) -> None:
        if not self.bundles:
            raise UserError("expected a bundle at least, such as RUN/bundles/onnx, seen none.")
        if min(self.height, self.width) < 1 or self.height * self.width > MAX_PIXELS:
            raise UserError(
                f"--height {self.height} --width {self.width}: expected sides of 1 pixel at least, "
                f"and at most {MAX_PIXELS:,} pixels, which is the largest picture that is decoded."
            )
        if not 0 <= self.threads <= machine.MOST_THREADS:
            raise UserError(
                f"--threads {self.threads}: expected 0 (one per core) to {machine.MOST_THREADS}."
            )
        drawn = self.picture
        if drawn and (drawn.suffix not in (".png", ".svg") or not drawn.absolute().parent.is_dir()):
            raise UserError(f"--picture {drawn}: expected a .png or .svg in a folder that exists.")


def main(bench: tyro.conf.OmitArgPrefixes[BenchOptions]) -> None:
    """Measure exported models: milliseconds and pictures a second by batch size, load time,
    memory."""
    rows = []
    for path in bench.bundles:
        opened = bundles.open_bundle(path)
        with console.busy(f"measuring {opened.folder}"):
            timing = measure_alone(opened.model, bench)
        write_timing(opened, timing)
        rows.append((opened, timing))
    show(rows)
    if bench.picture:
        draw(rows, bench.picture)


def measure_alone(model: Path, options: BenchOptions) -> dict[str, Any]:
    """Return what `measure` does in a process of its own; `UserError` if that process ended
    early."""
    # not fork, whose child would count this process's memory as its own
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawned) as processes:
        try:
            return processes.submit(measure, model, options).result()
        except BrokenProcessPool:
            raise _no_memory(options, "the process was ended by the system") from None


def _no_memory(options: BenchOptions, cause: str) -> UserError:
    """The error of a measurement that took more memory than there is."""
    return UserError(
        f"batches of up to {BATCHES[-1]} pictures of {options.width} x {options.height} pixels "
        f"cannot be measured here ({cause}): expected memory for all of them at once. Choose a "
        "smaller --height and --width, or free memory."
    )


def write_timing(opened: bundles.Bundle, timing: dict[str, Any]) -> None:
    """Write the numbers beside the model, where its folder can be written; a container often has it
    read-only."""
    try:
        rundir.write_json(opened.folder / bundles.TIMING, timing)
    except disk.NotWritable as error:
        console.warn(f"{error} The numbers are only shown here.")


def measure(model: Path, options: BenchOptions) -> dict[str, Any]:
    """Return the content of timing.json; to be called in a fresh process, whose memory it
    reports."""
    start = perf_counter()
    session, provider = onnx_runtime.load_session(model, options.provider, threads=options.threads)
    loaded = perf_counter() - start
    random = np.random.default_rng(0)
    failures: tuple[type[Exception], ...] = (MemoryError, *onnx_runtime.failures())
    rows = []
    for batch in BATCHES:
        try:
            shape = (batch, options.height, options.width, 3)
            # noise: the time does not depend on what is in a picture
            seconds = run_times(session, random.integers(0, 256, shape, dtype=np.uint8), provider)
        # also ONNX Runtime's own errors: it raises those where it finds no memory
        except failures as error:
            raise _no_memory(options, first_line(error)) from None
        rows.append(
            {
                "batch": batch,
                "median_ms": round(1000 * median(seconds), 2),
                "p90_ms": round(1000 * quantiles(seconds, n=10)[-1], 2),
                "pictures_per_s": round(batch / median(seconds), 1),
                "runs": len(seconds),
            }
        )
    return {
        "provider": provider,
        "threads": options.threads or machine.compute_threads(),
        "machine": platform.processor() or platform.machine(),
        "picture": [options.height, options.width],
        "load_s": round(loaded, 3),
        "model_mb": figures.model_mb(model),
        "peak_mib": peak_mib(),
        "batches": rows,
    }


def run_times(session: Any, image: np.ndarray, provider: str) -> list[float]:
    """Return the seconds of each run, after one that does not count."""
    onnx_runtime.run(session, None, {bundles.IMAGE: image}, provider)
    seconds: list[float] = []
    # both, so that a fast model is run often and a slow one at least ten times
    while len(seconds) < LEAST_RUNS or sum(seconds) < LEAST_SECONDS:
        start = perf_counter()
        onnx_runtime.run(session, None, {bundles.IMAGE: image}, provider)
        seconds.append(perf_counter() - start)
    return seconds


def peak_mib() -> float | None:
    """Return the largest resident memory of this process so far; None where the system does not
    tell (Windows)."""
    status = Path("/proc/self/status")  # getrusage counts what the parent had before exec, too
    if status.is_file():
        _, _, after = status.read_text().partition("VmHWM:")
        kib, *_ = after.split()
        return round(int(kib) / 2**10, 1)
    if sys.platform == "win32":
        return None
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # ru_maxrss counts bytes on macOS and KiB elsewhere
    per_mib = 2**20 if sys.platform == "darwin" else 2**10
    return round(used / per_mib, 1)


def show(rows: list[tuple[bundles.Bundle, dict[str, Any]]]) -> None:
    """Print one row a bundle; milliseconds by batch size."""
    columns = [console.Column("model"), console.Column("on")]
    by_batch = [f"{batch}: ms" for batch in BATCHES]
    for title in ("load s", "MB", "MiB", *by_batch, f"{BATCHES[-1]}: pictures/s"):
        columns.append(console.Column(title, right=True))
    cells = []
    for opened, timing in rows:
        medians_ms = [f"{row['median_ms']:.1f}" for row in timing["batches"]]
        cells.append(
            (
                f"{opened.run['name']} {opened.target}",
                timing["provider"],
                f"{timing['load_s']:.2f}",
                f"{timing['model_mb']:.1f}",
                timing["peak_mib"],
                *medians_ms,
                f"{timing['batches'][-1]['pictures_per_s']:.0f}",
            )
        )
    console.table(columns, cells)


@plain_text()
def draw(rows: list[tuple[bundles.Bundle, dict[str, Any]]], path: Path) -> None:
    """Draw milliseconds of one picture alone, and pictures a second in batches, a bar for each
    bundle."""
    from matplotlib.figure import Figure

    names, alone_ms, pictures_per_s = [], [], []
    for opened, timing in rows:
        names.append(f"{short(opened.run['name'])}\n{opened.target}")
        alone_ms.append(timing["batches"][0]["median_ms"])
        pictures_per_s.append(timing["batches"][-1]["pictures_per_s"])
    # grows with the bundles, so that bars and names keep their size
    figure = Figure(figsize=(9, 1.2 + 0.6 * len(rows)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, title, values in (
        (left, "one picture alone, ms (shorter is better)", alone_ms),
        (right, f"batches of {BATCHES[-1]}, pictures a second", pictures_per_s),
    ):
        axes.bar_label(axes.barh(range(len(rows)), values, color="#4477aa"), fmt="%.4g", padding=3)
        axes.set_yticks(range(len(rows)), names)
        axes.set_title(title, fontsize=10)
        axes.margins(x=0.2)
        axes.spines[["top", "right"]].set_visible(False)
    # bars are drawn from below, and the table has its first row at the top
    figure.axes[0].invert_yaxis()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    run_main(lambda: tyro.cli(main, prog="python -m export.bench"))
