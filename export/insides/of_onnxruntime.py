"""What is borrowed from ONNX Runtime's quantiser. Tried with ONNX Runtime 1.31.1."""

import logging
from inspect import signature
from pathlib import Path
from typing import Any

from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

CACHE = "calibration_cache_path"
"""The argument for a file that keeps what was seen of the pictures; 1.31 has it."""


def quantize(
    source: Path, path: Path, pictures: CalibrationDataReader, ranges: Path, **options: Any
) -> None:
    """Write `source` to `path` in 8 bits, without the advice to prepare the file first, which the
    exporter has done.

    The extremes of the network's values are kept in the file `ranges`, and taken from it if it is
    there, where the quantiser can. Borrowed: it writes to the root of all logs; and `CACHE`, which
    older versions do not have.
    """
    if CACHE in signature(quantize_static).parameters:
        options[CACHE] = ranges
    # the root, because the quantiser logs by no name of its own
    log = logging.getLogger()
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        quantize_static(source, path, pictures, quant_format=QuantFormat.QDQ, **options)
    finally:
        log.setLevel(level)
