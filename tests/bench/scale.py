"""What a run of many pictures costs on the host: `python -m tests.bench.scale [PICTURES ...]`, by
default 1e5 to 1e7.

Memory of the index once it is in columns, and of an epoch's order, and the time to shuffle;
measured, in one process of its own for each size.
"""

import dataclasses
import multiprocessing
import resource
import sys
import time

import numpy as np

from finetune.data.loader import epoch_order, numbered
from finetune.data.picture_columns import Picture, Pictures
from tests.made_recipe import made_recipe


def resident_mb() -> float:
    """Memory of this process now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def measure(pictures: int) -> str:
    """One row of the table."""
    index = Pictures.of(
        Picture(
            f"train/class-{i % 1000:04d}/picture-{i:09d}.jpg",
            i % 1000,
            "train",
            f"{i:064x}",
            500 + i % 300,
            375,
        )
        for i in range(pictures)
    )
    columns = (getattr(index, field.name) for field in dataclasses.fields(index))
    index_mb = sum(column.nbytes for column in columns if isinstance(column, np.ndarray)) / 1e6
    began = time.perf_counter()
    np.random.default_rng([0, 0]).permutation(pictures)
    shuffle_s = time.perf_counter() - began
    labels = index.labels.tolist()
    before, began = resident_mb(), time.perf_counter()
    keys = list(numbered(epoch_order(labels, made_recipe(), 0), 0))
    return (
        f"| {pictures:,} | {index_mb:,.0f} MB | {shuffle_s:.2f} s | "
        f"{time.perf_counter() - began:.1f} s | {resident_mb() - before:,.0f} MB | "
        f"{index_mb * 1e6 / len(keys):.0f} B |"
    )


if __name__ == "__main__":
    print("| pictures | index | permutation | an epoch's order | its memory | index, a picture |")
    print("| --- | --- | --- | --- | --- | --- |")
    for size in map(int, map(float, sys.argv[1:] or ("1e5", "1e6", "1e7"))):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(pool.apply(measure, (size,)), flush=True)
