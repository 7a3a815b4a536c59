"""Scanning speed: 100,000 small PNG files (32x32 RGB) in 100 class folders, read, hashed and
decoded.

python -m tests.bench.scan [--files 100000]
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from finetune.data import scanning
from finetune.machine.device import cpu_cores
from finetune.sources.class_folders import read_folders


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    files = parser.parse_args().files
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        for i in range(files):
            target = Path(folder) / f"class{i % 100:02}"
            target.mkdir(exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(
                target / f"{i}.png"
            )
        start = time.perf_counter()
        data = scanning.scan(read_folders(Path(folder)), processes=cpu_cores())
        seconds = time.perf_counter() - start
    print(
        f"{len(data.pictures)} pictures scanned in {seconds:.1f} s, "
        f"{len(data.pictures) / seconds:.0f} a second"
    )


if __name__ == "__main__":
    main()
