"""NVIDIA's parser and builder for TensorRT: an ONNX file -> an engine, or the words in which they
refuse it.

Networks are strongly typed: the precision is that of the file, there are no precision flags
(TensorRT 11). A builder times many kernels for each layer, which takes minutes. What it measured is
kept in `$ZOOTUNE_HOME` (`~/.cache/zootune`) for each GPU and TensorRT, so that the next build of a
like network does not measure it again.
"""

import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from zoo.contract import bundle
from zoo.host import console, disk
from zoo.host.errors import UserError
from zoo.hub import pins


def import_tensorrt() -> Any:
    """`tensorrt` where there is a GPU and that package, else `tensorrt_rtx`; `UserError` with the
    install line."""
    if torch.cuda.is_available():
        try:
            import tensorrt
        except ImportError:
            console.warn(
                "no engine is built for this GPU without the package tensorrt: pip install tensorrt"
            )
        else:
            return tensorrt
    try:
        import tensorrt_rtx
    except ImportError:
        raise UserError(
            "the target tensorrt needs NVIDIA's parser and builder, which work without a GPU "
            "(Linux and "
            f"Windows on x86-64, seen {platform.system()} on {platform.machine()}): pip install -e "
            '".[tensorrt]"'
        ) from None
    return tensorrt_rtx


def build_engine(trt: Any, path: Path, shapes: Mapping[str, Sequence[int]] | None) -> bytes:
    """Parse an ONNX file and build its engine; `UserError` with the parser's words. `trt`: tensorrt
    or tensorrt_rtx."""
    # collected, because a builder that fails returns None and says why in its log only
    words: list[str] = []

    class Log(trt.ILogger):  # type: ignore[name-defined,misc]
        """Keeps what NVIDIA's code says, which would go to stderr."""

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                words.append(message)

    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(network_flags(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(path.read_bytes()):
        raise UserError(
            f"TensorRT's parser refuses {path.name}: {_errors(parser)}. Export to onnx instead, or "
            "choose another base."
        )
    options = configuration(trt, builder)
    # without a profile TensorRT refuses inputs whose sizes may change
    if shapes:
        sizes = builder.create_optimization_profile()
        sizes.set_shape(
            bundle.IMAGE, tuple(shapes["min"]), tuple(shapes["opt"]), tuple(shapes["max"])
        )
        options.add_optimization_profile(sizes)
    with known_timings(trt, options):
        engine = builder.build_serialized_network(network, options)
    if engine is None:
        raise UserError(
            f"TensorRT cannot build an engine of {path.name}: {'; '.join(words)[:500]}. Export to "
            "onnx instead, or choose another base."
        )
    return bytes(engine)


def _errors(parser: Any) -> str:
    """What TensorRT's parser has against a file."""
    errors = [parser.get_error(number) for number in range(parser.num_errors)]
    words = "; ".join(f"{error.node_name()}: {error.desc()}" for error in errors)
    return " ".join(words.split())[:500]


def network_flags(trt: Any) -> int:
    """Types as the file has them: TensorRT 10 would choose its own unless it is asked, 11 knows
    nothing else."""
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def configuration(trt: Any, builder: Any) -> Any:
    """A builder's configuration without TF32, which is on by default and keeps 10 bits of float32's
    23: the limits of the proof in fp32 are out of its reach."""
    options = builder.create_builder_config()
    options.clear_flag(trt.BuilderFlag.TF32)
    return options


def timings_file(trt: Any) -> Path | None:
    """Where the measured times of kernels are kept for this GPU and TensorRT; None where there is
    nothing to measure:
    without a GPU, and for `tensorrt_rtx`, which chooses kernels when an engine is loaded."""
    if trt.__name__ != "tensorrt":
        return None
    gpu = torch.cuda.get_device_properties(0)
    name = f"{gpu.name}-{gpu.major}.{gpu.minor}-tensorrt-{trt.__version__}"
    return pins.pins_file().parent / "timings" / re.sub(r"[^A-Za-z0-9_.-]+", "_", name)


@contextmanager
def known_timings(trt: Any, options: Any) -> Iterator[None]:
    """While an engine is built with these options: take times that were measured before, and keep
    the new ones.

    A file that is damaged, or from another GPU, is ignored with a warning; so is a folder that
    cannot be written.
    """
    file = timings_file(trt)
    if file is None:
        yield
        return
    before = file.read_bytes() if file.is_file() else b""
    if not _take_timings(options, before):
        console.warn(
            f"{file} is not a timing cache of this GPU and TensorRT: it is ignored, and written "
            "anew"
        )
        _take_timings(options, b"")
    yield
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        disk.write_whole(
            file, lambda new: new.write_bytes(bytes(options.get_timing_cache().serialize()))
        )
    except (OSError, UserError) as error:
        console.warn(f"the times of kernels cannot be kept for the next build: {error}")


def _take_timings(options: Any, content: bytes) -> bool:
    """Whether TensorRT accepts this timing cache; an empty one always."""
    try:
        timings = options.create_timing_cache(content)
    except RuntimeError:
        return False
    return timings is not None and bool(options.set_timing_cache(timings, ignore_mismatch=False))
