"""timm's config.json, which strangers write: the entries that are used have the types and ranges
that networks have.

    check_config(config, where)   the same config, or `UserError` that names the file and the key
    arguments(config, where)      what its `model_args` say of the network

Needs neither torch nor timm. What an architecture makes of these values is bounded in
zoo/network/guard.py.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from zoo.host.errors import UserError

MOST_CLASSES = 1_000_000
MOST_SIDE = 1024
"""Pixels of a picture's side; the largest of timm's pretrained configurations."""
MOST_WINDOW = 32
"""Patches of a window's side; the largest that timm's networks have."""
MOST_ARGUMENTS = 64
MOST_NUMBER = 65_536
"""Of `model_args`: the widest layer of timm's networks has 32,768 features."""
MOST_TEXT = 100
"""Characters of a name."""
OWN_ARGUMENTS = frozenset(
    {
        "pretrained",
        "pretrained_cfg",
        "pretrained_cfg_overlay",
        "pretrained_model_args",
        "checkpoint_path",
        "cache_dir",
        "scriptable",
        "exportable",
        "no_jit",
        "num_classes",
        "features_only",
        "feature_cfg",
        "feature_cls",
        "out_indices",
        "pretrained_strict",
        "pretrained_filter_fn",
        "pretrained_custom_load",
        "kwargs_filter",
        "model_cfg",
        "model_cls",
        "model_name",
        "variant",
        "pruned",
        "device",
        "dtype",
        "drop_path_rate",
        "drop_rate",
    }
)
"""Arguments of `timm.create_model` that a config.json does not set: ours, files to read, and what
is no network."""
LAYER = re.compile(r"\w+(\.\w+)*")
"""A layer's name, `stem.conv1`; no part begins or ends with a double underscore."""
SIZES = re.compile(
    r"(?<!hidden)(?<!intermediate)(^|_)(size|sizes|grid|resolution|resolutions|len|length)$"
)
"""Names of arguments that count pixels or patches of a side: tables of their square are
computed."""
PLAIN_NAME = re.compile(r"[A-Za-z0-9_.+-]*")
INTERPOLATIONS = ("bicubic", "bilinear", "nearest", "lanczos", "box", "hamming", "random", "")
CROP_MODES = ("center", "squash", "border", "")


def shown_value(value: Any) -> str:
    """A stranger's value for an error: escaped, and short."""
    text = repr(value)
    if isinstance(value, list | dict):
        text = f"{type(value).__name__} of {len(value)}"
    if len(text) <= MOST_TEXT:
        return text
    return text[:MOST_TEXT] + "..."


def check_config(config: Any, where: str) -> dict[str, Any]:
    """`config` itself; `where`: the repository or file, for errors. Raises `UserError`."""
    if not isinstance(config, dict):
        raise _error(where, "its content", "an object of timm's layout", config)
    _check_entries(config, where, "")
    inner = config.get("pretrained_cfg") or {}
    if not isinstance(inner, dict):
        raise _error(where, "pretrained_cfg", "an object", inner)
    # the same entries: old files have them at the top, newer ones inside
    _check_entries(inner, where, "pretrained_cfg.")
    _check_classes(config, where)
    return config


def arguments(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What `model_args` says of the network itself: numbers, short names and short lists. Raises
    `UserError`."""
    model_args = config.get("model_args") or {}
    if not isinstance(model_args, dict) or len(model_args) > MOST_ARGUMENTS:
        raise _error(
            where, "model_args", f"an object of at most {MOST_ARGUMENTS} arguments", model_args
        )
    kept = {name: value for name, value in model_args.items() if name not in OWN_ARGUMENTS}
    for name, value in kept.items():
        if len(name) > MOST_TEXT or not name.isidentifier() or name.startswith("_"):
            raise _error(where, "model_args", "names of arguments", name)
        if not _is_argument(value, _most(name)):
            raise _error(
                where,
                f"model_args.{name}",
                "small numbers and short names, alone or in a short list",
                value,
            )
    return kept


def _most(name: str) -> int:
    # tables of all pairs of places in a window grow with the fourth power of its side
    if "window" in name:
        return MOST_WINDOW
    return MOST_SIDE if SIZES.search(name) else MOST_NUMBER


def _error(where: str, key: str, expected: str, seen: Any) -> UserError:
    return UserError(
        f"{where}: config.json: expected {expected} for {key}, seen {shown_value(seen)}. Choose "
        "another base, or another copy of this one."
    )


def _check_entries(config: Mapping[str, Any], where: str, before: str) -> None:
    for key, (expected, fits) in ENTRIES.items():
        value = config.get(key)
        if value is not None and not fits(value):
            raise _error(where, before + key, expected, value)


def _check_classes(config: Mapping[str, Any], where: str) -> None:
    names = config.get("label_names")
    if names is None:
        return
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _error(where, "label_names", "a list of texts", names)
    # every answer would be named wrongly
    if (classes := config.get("num_classes")) is not None and classes != len(names):
        raise _error(where, "num_classes", f"the {len(names)} of label_names", classes)


def _is_number(value: Any, low: float, high: float) -> bool:
    # type, not isinstance: True is an int
    return type(value) in (int, float) and math.isfinite(value) and low <= value <= high


def _is_count(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _is_argument(value: Any, most: int, depth: int = 0) -> bool:
    if isinstance(value, list):
        if len(value) > MOST_ARGUMENTS or depth >= 2:
            return False
        return all(_is_argument(part, most, depth + 1) for part in value)
    if isinstance(value, str):
        return len(value) <= MOST_TEXT and bool(PLAIN_NAME.fullmatch(value))
    return value is None or isinstance(value, bool) or _is_number(value, -most, most)


def _is_layer(value: Any) -> bool:
    # timm follows the name with getattr, and no part may lead to `__class__` and the like
    if not _is_name(value) or "__" in value:
        return False
    return value == "" or LAYER.fullmatch(value) is not None


def _are_layers(value: Any) -> bool:
    names = value if isinstance(value, list | tuple) else [value]
    return len(names) <= 16 and all(map(_is_layer, names))


def _is_picture(value: Any) -> bool:
    return _are_sides(value) and len(value) == 3 and value[0] == 3


def _are_sides(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) <= 3
        and all(_is_count(part, 1, MOST_SIDE) for part in value)
    )


def _are_means(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 3
        and all(_is_number(part, -1000, 1000) for part in value)
    )


def _are_deviations(value: Any) -> bool:
    return _are_means(value) and all(part >= 1e-3 for part in value)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MOST_TEXT


def _is_truth(value: Any) -> bool:
    return isinstance(value, bool)


def _is_crop(value: Any) -> bool:
    return _is_number(value, 0.1, 1.5)


PICTURE = f"[3, height, width] with sides up to {MOST_SIDE}"
ENTRIES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "architecture": ("a name", _is_name),
    "num_classes": (
        f"a number up to {MOST_CLASSES:,}",
        lambda value: _is_count(value, 0, MOST_CLASSES),
    ),
    "input_size": (PICTURE, _is_picture),
    "test_input_size": (PICTURE, _is_picture),
    "min_input_size": (PICTURE, _is_picture),
    "fixed_input_size": ("true or false", _is_truth),
    "pool_size": ("two small numbers", _are_sides),
    "test_pool_size": ("two small numbers", _are_sides),
    "crop_pct": ("a number from 0.1 to 1.5", _is_crop),
    "test_crop_pct": ("a number from 0.1 to 1.5", _is_crop),
    "crop_mode": (f"one of {', '.join(CROP_MODES[:-1])}", lambda value: value in CROP_MODES),
    "interpolation": (
        f"one of {', '.join(INTERPOLATIONS[:-1])}",
        lambda value: value in INTERPOLATIONS,
    ),
    "mean": ("three numbers", _are_means),
    "std": ("three numbers from 0.001 on", _are_deviations),
    "classifier": ("the name of a layer, or a list of them", _are_layers),
    "first_conv": ("the name of a layer, or a list of them", _are_layers),
    "tag": ("a name", _is_name),
    "license": ("a name", _is_name),
    "global_pool": ("a name", _is_name),
}
"""Key -> what is expected, in words, and whether a value is that. Keys that are absent or null have
timm's default."""
