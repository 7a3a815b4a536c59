"""What is borrowed from timm. Tried with timm 1.0.31."""

import inspect
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

RENAMERS = ("checkpoint_filter_fn", "_filter_fn", "_filter_torchvision_pretrained")
"""Names under which timm's modules keep the function that renames and resizes the tensors of
published files."""


def old_names() -> Mapping[str, str | None]:
    """Return timm's old names of models with its present ones; None where it has none any more.

    Borrowed: `timm.models._registry.get_deprecated_models`. The public `list_models` leaves old
    names out, and `create_model` answers them with a warning after seconds of work.
    """
    from timm.models._registry import get_deprecated_models

    return get_deprecated_models()


def renamer(module: ModuleType) -> Callable[..., Any] | None:
    """Return the function (tensors, model) by which a module of timm adapts the files that it
    published for its models; None if its files need none.

    Borrowed: the functions called `RENAMERS`, and their argument `adapt_layer_scale`. The public
    way, `create_model(pretrained=True)`, applies them to files that it downloads itself.
    """
    present = [name for name in RENAMERS if hasattr(module, name)]
    if not present:
        return None
    function: Callable[..., Any] = getattr(module, present[0])
    takes = inspect.signature(function).parameters

    def rename(state: Any, model: Any) -> Any:
        options: dict[str, Any] = {}
        if "model" in takes:
            options["model"] = model
        if "adapt_layer_scale" in takes:
            options["adapt_layer_scale"] = True  # DeiT 3's files, as timm's deit.py asks for it
        return function(state, **options)

    return rename
