"""ONNX Runtime, loaded so that what was asked for is what is used: never a silent fall from CUDA to
the CPU.

What has to be known about it (1.31): `get_available_providers()` lists CUDA on machines without a
GPU, only `session.get_providers()` tells; a session falls back to the CPU, when made and when run,
unless that is switched off; two of its packages in one environment overwrite each other, and pip
sees nothing wrong (microsoft/onnxruntime #26996, #7748); memory patterns are kept for every new
picture size.
"""

import contextlib
import ctypes
import importlib.metadata
import io
import platform
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.answer import openvino_runtime
from zoo.host import machine, minimum
from zoo.host.errors import UserError, first_line

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""Our names of ONNX Runtime's execution providers."""
OPENVINO = "openvino"
"""What computes a model in OpenVINO's format, on the CPU."""
HAS_CUDA_PACKAGE = (sys.platform, platform.machine()) == ("linux", "x86_64")
PACKAGE = "onnxruntime-gpu" if HAS_CUDA_PACKAGE else "onnxruntime"
"""What to install here; the one with CUDA is as good on the CPU."""
_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")
_CUDA_OPTIONS = {
    "use_tf32": "0",
    "cudnn_conv_algo_search": "HEURISTIC",
    "arena_extend_strategy": "kSameAsRequested",
}
"""TF32 keeps 10 bits of 23: other answers than on the CPU. The default search times every algorithm
for each new batch size. By default memory grows in powers of two, and pictures of ever new sizes
would take a GPU that others use as well.
(onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html)"""
_SHRUNK = {"cpu": "cpu:0", "cuda": "cpu:0;gpu:0"}
"""Arenas whose memory is given back after each pass, by provider."""
LONGEST_RUN_S = 600.0
"""A pass is stopped after so many seconds, unless the caller has less time; a ViT-L of 32 views
takes some 20 on two cores."""
_WARNINGS, _ERRORS, _SILENT = 2, 3, 4
"""ONNX Runtime's severities: warnings (its default), errors, fatal errors only."""


def provider_of(model: Path) -> str:
    """What computes a model file on the CPU."""
    return OPENVINO if model.suffix == ".xml" else "cpu"


def load_session(
    model: Path, provider: str, *, threads: int = 0, eight_bit_kernels: bool = True
) -> tuple[Any, str]:
    """(InferenceSession, `cpu`, `cuda` or `openvino`: what it uses).

    `provider`: `cpu`, `cuda`, `openvino`, or `auto`: CUDA where a session really gets it, OpenVINO
    for its own format. `threads` of one operation on the CPU, 0 = as `zoo.host.machine` counts
    cores. `eight_bit_kernels`: False computes a quantised ONNX file in float32 between the
    roundings that it states, as accelerators do, not by this CPU's integer kernels.
    Raises `UserError` if ONNX Runtime is missing or broken, cannot read the model, or gives another
    provider than was asked for.
    """
    if provider not in ("auto", OPENVINO, *PROVIDERS) or threads < 0:
        raise UserError(
            f"expected a provider of auto, {', '.join(PROVIDERS)} and 0 or more threads, seen "
            f"{provider!r} and {threads}."
        )
    if threads > machine.MOST_THREADS:
        raise UserError(f"expected at most {machine.MOST_THREADS} threads, seen {threads}.")
    own = provider_of(model)
    if OPENVINO in (own, provider):
        if provider == "cuda":
            raise UserError(
                f"provider cuda was asked for, and {model} is a model for OpenVINO, which computes "
                "on the CPU: use provider auto, or the bundle for onnx."
            )
        return openvino_runtime.load_compiled(model, threads=threads), OPENVINO
    runtime = import_onnxruntime()
    if provider != "cpu":
        session, reason = _cuda_session(runtime, model, threads, quiet=provider == "auto")
        if session:
            return session, "cuda"
        if provider == "cuda":
            raise UserError(
                f"provider cuda was asked for and cannot be had: {reason}. Or use provider cpu."
            )
    return _session(
        runtime, model, threads, [PROVIDERS["cpu"]], eight_bit_kernels=eight_bit_kernels
    ), "cpu"


def run(
    session: Any,
    names: Sequence[str] | None,
    feed: Mapping[str, np.ndarray],
    provider: str,
    *,
    limit_s: float = LONGEST_RUN_S,
) -> list[Any]:
    """The outputs `names` (None: all) of one pass through a session that `load_session` gave, with
    what `load_session` said it uses.

    A model file is a program that may compute without end: ONNX Runtime is stopped after `limit_s`
    seconds, with `TimeoutError`. OpenVINO cannot be stopped (2026.2 waits for the end of a Loop).
    Raises `failures()` as well.
    """
    options = run_options(provider)
    # `terminate` is looked at between two nodes, so that a single long one still runs to its end
    clock = threading.Timer(limit_s, setattr, (options, "terminate", True))
    # a pass that hangs must not keep the process alive
    clock.daemon = True
    clock.start()
    try:
        return session.run(names, feed, options)
    except failures():
        # ONNX Runtime raises the same type for this as for a broken model
        if options.terminate:
            raise TimeoutError(f"no answer within {limit_s:.3g} seconds") from None
        raise
    finally:
        clock.cancel()


def run_options(provider: str) -> Any:
    """Options of one `session.run`, which give memory back after it; the arena would keep what the
    largest took.

    400 sizes, one of them of 35 million pixels: 111 MB instead of 191 at the same speed, memory
    patterns off as well.
    """
    options = import_onnxruntime().RunOptions()
    options.log_severity_level = _SILENT  # what goes wrong is raised
    if provider in _SHRUNK:
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", _SHRUNK[provider])
    return options


def failures() -> tuple[type[Exception], ...]:
    """What ONNX Runtime and OpenVINO raise for a model that they cannot load or run."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (
        state.Fail,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.InvalidArgument,
        state.NotImplemented,
        state.NoSuchFile,
        state.NoModel,
        state.EPFail,
        state.RuntimeException,
        RuntimeError,
        ValueError,
    )


def program(provider: str) -> str:
    """Name and version of the installed package that computes for a provider, as pip calls it."""
    if provider == OPENVINO:
        return f"openvino {openvino_runtime.import_openvino().__version__}"
    installed = next(iter(_installed()), PACKAGE)
    return f"{installed} {import_onnxruntime().__version__}"


def import_onnxruntime() -> Any:
    """The module; `UserError` with the pip lines if it is missing, incomplete, too old, or
    installed twice."""
    repair = f"pip uninstall -y {' '.join(_PACKAGES)}, then pip install {PACKAGE}"
    # before the import, which takes files of either
    if len(found := _installed()) > 1:
        raise UserError(
            f"expected one package of ONNX Runtime, seen {' and '.join(found)}, which overwrite "
            f"each other's files. Repair it: {repair}"
        )
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise UserError(
            f"answering needs ONNX Runtime, which is not installed ({error}): pip install {PACKAGE}"
        ) from None
    except ImportError as error:
        raise UserError(
            f"ONNX Runtime cannot be loaded ({first_line(error)}). Repair it: {repair}"
        ) from None
    # what is left when one of two packages was uninstalled
    if not hasattr(onnxruntime, "InferenceSession"):
        raise UserError(
            "ONNX Runtime is incomplete: its folder is there, its content is not. Repair it: "
            f"{repair}"
        )
    installed = next(iter(found), PACKAGE)
    minimum.check_version("onnxruntime", onnxruntime.__version__, name=installed)
    return onnxruntime


def _installed() -> list[str]:
    """The packages of ONNX Runtime that pip knows here."""
    return [name for name in _PACKAGES if _is_installed(name)]


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _cuda_session(runtime: Any, model: Path, threads: int, *, quiet: bool) -> tuple[Any, str]:
    """(session on CUDA, "") or (None, why there is none); `quiet`: without ONNX Runtime's red lines
    about it."""
    if PROVIDERS["cuda"] not in runtime.get_available_providers():
        return None, (
            f"this ONNX Runtime has none (pip uninstall -y {' '.join(_PACKAGES)}, then pip install "
            "onnxruntime-gpu)"
        )
    if not _has_driver():
        return None, "this machine has no NVIDIA driver (nvidia-smi must list a GPU)"
    try:
        # standard output belongs to the answers of the command
        with _quiet(runtime) if quiet else contextlib.redirect_stdout(sys.stderr):
            runtime.preload_dlls()  # from pip's nvidia packages; it prints to stdout
            session = _session(
                runtime, model, threads, [(PROVIDERS["cuda"], _CUDA_OPTIONS), PROVIDERS["cpu"]]
            )
    except UserError as error:
        return None, str(error).rstrip(".")
    if PROVIDERS["cuda"] not in session.get_providers():
        return None, (
            f"a session gets {', '.join(session.get_providers())}; it needs an NVIDIA GPU and the "
            f'libraries of CUDA {runtime.cuda_version} (pip install "onnxruntime-gpu[cuda,cudnn]")'
        )
    return session, ""


def _has_driver() -> bool:
    """Whether NVIDIA's driver can be loaded; asking ONNX Runtime first would load 150 MB of CUDA to
    find out."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _quiet(runtime: Any) -> Iterator[None]:
    # the default logger, which tells what goes wrong while CUDA's libraries are loaded
    runtime.set_default_logger_severity(_SILENT)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        runtime.set_default_logger_severity(_WARNINGS)


def _session(
    runtime: Any, model: Path, threads: int, providers: list[Any], *, eight_bit_kernels: bool = True
) -> Any:
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    if not eight_bit_kernels:
        # keeps the roundings that the file states as operations of their own
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.log_severity_level = _ERRORS
    # by default it takes every core of the machine, also in a container that may use two
    options.intra_op_num_threads = machine.library_threads(threads)
    # a pattern is kept for each new picture size, and never given back
    options.enable_mem_pattern = False
    try:
        # enable_fallback=0: without it a session that fails on CUDA is made again on the CPU, in
        # silence
        return runtime.InferenceSession(model, options, providers=providers, enable_fallback=0)
    except failures() as error:
        raise UserError(
            f"ONNX Runtime {runtime.__version__} cannot load {model}: {first_line(error)}. If it "
            f"is an old version: pip install -U {PACKAGE}"
        ) from None
