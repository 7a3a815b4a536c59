"""This project against the plain loop, in turn, each as a whole process: test top-1, wall seconds,
peak memory.

    python -m tests.bench.compare --data emoji --size 96 --epochs 5 --seeds 0 1

Peak memory is the sum over the process tree, sampled once a second (PSS: shared pages are counted
once; asking for it costs the process some speed).
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean

import psutil


def watch(command: list[str]) -> tuple[str, float, float]:
    """(output, wall seconds, peak MiB of the process tree) of a command; raises if it fails."""
    start, peak = time.perf_counter(), 0.0
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        tree = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                memory = sum(
                    p.memory_full_info().pss for p in (tree, *tree.children(recursive=True))
                )
                peak = max(peak, memory / 2**20)
            except psutil.Error:
                continue  # a process ended between listing and asking
            time.sleep(1.0)
        seconds = time.perf_counter() - start
        out.seek(0)
        text = out.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{text}")
    return text, seconds, peak


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--size", default="96")
    parser.add_argument("--epochs", default="5")
    parser.add_argument("--seeds", nargs="+", default=["0", "1"])
    a = parser.parse_args()
    rows: dict[str, list[tuple[float, float, float]]] = {"plain loop": [], "finetune": []}
    for seed in a.seeds:
        text, seconds, peak = watch(
            [
                sys.executable,
                "-m",
                "tests.bench.plain_loop",
                "--data",
                str(a.data),
                "--size",
                a.size,
                "--epochs",
                a.epochs,
                "--seed",
                seed,
            ]
        )
        found = re.search(r"test top-1 ([\d.]+)", text)
        assert found, text
        rows["plain loop"].append((100 * float(found[1]), seconds, peak))
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            _, seconds, peak = watch(
                [
                    sys.executable,
                    "-m",
                    "finetune",
                    "--data",
                    str(a.data),
                    "--out",
                    str(out),
                    "--image-size",
                    a.size,
                    "--epochs",
                    a.epochs,
                    "--seed",
                    seed,
                ]
            )
            report = json.loads((out / "report.json").read_text())
        rows["finetune"].append((100 * report["splits"]["test"]["top1"], seconds, peak))
        print(
            {name: [round(v, 1) for v in values[-1]] for name, values in rows.items()}, flush=True
        )
    print(
        "| | test top-1 (each seed) | mean | wall s | peak MiB |\n| --- | --- | --- | --- | --- |"
    )
    for name, values in rows.items():
        top1, seconds, peak = zip(*values, strict=True)
        print(
            f"| {name} | {', '.join(f'{v:.1f}' for v in top1)} | {mean(top1):.1f} | "
            f"{', '.join(f'{v:.0f}' for v in seconds)} | {max(peak):.0f} |"
        )


if __name__ == "__main__":
    main()
