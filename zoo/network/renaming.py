"""A file's tensors under the names and in the sizes of timm's model, and how far they fit."""

import math
import sys
import warnings
from collections.abc import Mapping

from torch import Tensor, nn

from zoo.bases import of_timm
from zoo.network import weights

TIMM_ERRORS = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    RuntimeError,
    AssertionError,
    ArithmeticError,
    MemoryError,
    ImportError,
)
"""What timm raises for arguments and tensors that do not belong to an architecture."""
RESIZED = ("patch_embed", "pos_embed", "rel_pos", "relative_position")
"""Parts of the names of tensors that timm resizes to the model's picture or patch."""
MOST_PATCH = 64
"""Pixels of a patch's side; the time that resizing takes grows with its fourth power."""


def as_timm_names_them(model: nn.Module, raw: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as timm renames and resizes those of its own published files; `raw` where it
    cannot.

    Whoever compares them with the model then names what does not fit.
    """
    # before timm sees it: what is too far from the model takes it hours
    if not _can_be_resized(raw, shapes(model.state_dict())):
        return raw
    try:
        return _renamed(model, raw)
    except TIMM_ERRORS:
        return raw


def as_stem_takes_them(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, and for the stem of 32 px the middle 3x3 of the first convolution that weights
    for larger pictures have."""
    own, stem = model.state_dict(), "conv1.weight"
    seen = state.get(stem)
    if seen is None or stem not in own or seen.shape[2:] != (7, 7) or own[stem].shape[2:] != (3, 3):
        return state
    return state | {stem: seen[:, :, 2:5, 2:5]}


def _renamed(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Apply the renaming and resizing (of position embeddings) that timm applies to its own
    published files."""
    rename = of_timm.renamer(sys.modules[type(model).__module__])
    if rename is None:
        return state
    with warnings.catch_warnings():  # about the way timm resizes BEiT's tables
        warnings.filterwarnings("ignore", message="torch.searchsorted.*non-contiguous")
        warnings.filterwarnings(
            "ignore", message="Using a non-tuple sequence for multidimensional indexing"
        )
        renamed: dict[str, Tensor] = rename(state, model)
        return renamed


def _can_be_resized(raw: Mapping[str, Tensor], ours: Mapping[str, list[int]]) -> bool:
    """Whether the tensors that timm would resize are near enough to the model's: sizes that no
    network has take hours.

    Of patches the channels are equal, of positions the width (the last dimension).
    """
    known: dict[str, set[tuple[int, ...]]] = {part: set() for part in RESIZED}
    for name, lengths in ours.items():
        for part in filter(name.__contains__, RESIZED):
            known[part].add(tuple(lengths))
    for name, tensor in raw.items():
        known_shapes = known.get(_resized_part(name))
        file_shape = tuple(tensor.shape)
        if known_shapes and not any(_is_resized(file_shape, shape) for shape in known_shapes):
            return False
    return True


def _resized_part(name: str) -> str:
    """Which of `RESIZED` a tensor's name holds; "" if none."""
    for part in RESIZED:
        if part in name:
            return part
    return ""


def _is_resized(seen: tuple[int, ...], own: tuple[int, ...]) -> bool:
    # only reshaped
    if math.prod(seen) == math.prod(own):
        return True
    if len(seen) == 4:
        return seen[:2] == own[:2] and max(seen[2:]) <= MOST_PATCH
    return bool(seen and own) and seen[-1] == own[-1]


def shapes(state: Mapping[str, Tensor]) -> dict[str, list[int]]:
    """Name -> lengths of the dimensions of each tensor."""
    return {name: list(tensor.shape) for name, tensor in state.items()}


def differences(expected: Mapping[str, list[int]], seen: Mapping[str, list[int]]) -> list[str]:
    """Lines `- name shape` and `+ name shape` for each tensor that is missing, unexpected or of
    another shape."""
    lines = []
    # in the model's order, so that both sides of a difference stand together
    for name in dict.fromkeys((*expected, *seen)):
        own, other = expected.get(name), seen.get(name)
        if own == other or (weights.is_counter(name) and None in (own, other)):
            continue
        if own is not None:
            lines.append(f"- {name} {own}")
        if other is not None:
            lines.append(f"+ {name} {other}")
    return lines
