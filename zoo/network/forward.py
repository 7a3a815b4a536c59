"""What the rest of the program asks a network, whatever its architecture.

forward(model, x)        logits, embedding and feature map, from one pass
features(model, x)       pooled features, so that head(model) applied to them gives the logits
data_config(model)       input size and normalisation, as timm names them
"""

from typing import Any, NamedTuple

import torch
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from zoo.contract.decision import Early
from zoo.network.early import joined_parts, parts_of


def data_config(model: nn.Module) -> dict[str, Any]:
    """timm's `input_size` (3, height, width), `mean`, `std`, `interpolation`, `crop_pct`,
    `crop_mode` of a model."""
    config = resolve_model_data_config(model)
    # timm's configuration keeps the published size of a model that was built for another
    built_for = getattr(getattr(model, "patch_embed", None), "img_size", None)
    size = tuple(built_for or config["input_size"][-2:])
    return config | {
        "input_size": (3, *size),
        "mean": tuple(config["mean"]),
        "std": tuple(config["std"]),
    }


class Forward(NamedTuple):
    """What one forward pass gives."""

    logits: Tensor
    """[B, classes]."""
    embedding: Tensor
    """Pooled features [B, D]; with an earlier stage [B, D + 2 * channels], of `joined_parts`."""
    feature_map: Tensor
    """Features at each place, in the architecture's own layout (zoo/network/class_maps.py reads
    it)."""


def forward(model: nn.Module, x: Tensor, early: Early | None = None) -> Forward:
    """Logits, embedding and feature map of pictures [B, 3, H, W]; `early` is joined to the
    embedding."""
    network: Any = model
    if early is None:
        feature_map = network.forward_features(x)
        embedding = network.forward_head(feature_map, pre_logits=True).flatten(1)
    else:
        feature_map, stages = network.forward_intermediates(x, indices=[early.stage])
        embedding = joined_parts(parts_of(network, feature_map, stages[0]), early)
    return Forward(network.forward_head(feature_map), embedding, feature_map)


def features(model: nn.Module, x: Tensor) -> Tensor:
    """Pooled features [B, D] of pictures [B, 3, H, W]; `head(model)` applied to them gives the
    logits."""
    network: Any = model
    return network.forward_head(network.forward_features(x), pre_logits=True).flatten(1)


@torch.no_grad()
def head(model: nn.Module) -> nn.Linear | nn.Conv2d | None:
    """The classifier: the module with `logits = features @ weight.T + bias` in evaluation mode.

    A linear layer, or a 1x1 convolution ([C, D, 1, 1]). None where there is no such module (two
    heads, layers between). Tried with one random picture each time, so call it once, not per batch.
    """
    network: Any = model
    last: Any = network.get_classifier() if hasattr(network, "get_classifier") else None
    linear = isinstance(last, nn.Linear) or (
        isinstance(last, nn.Conv2d) and last.kernel_size == (1, 1)
    )
    if not linear or last.bias is None or not hasattr(network, "forward_head"):
        return None
    training = network.training
    captured: list[Tensor] = []
    watch = last.register_forward_hook(
        lambda module, inputs, output: captured.extend((inputs[0], output))
    )
    try:
        # random, because zeros would hide a missing bias or a layer between
        noise = torch.randn(
            1, *data_config(model)["input_size"], generator=torch.Generator().manual_seed(0)
        )
        x = noise.to(last.weight.device, last.weight.dtype)
        # evaluation mode: dropout stands before the head, and would make the two passes differ
        logits = network.eval()(x)
        watch.remove()
        same = (
            len(captured) == 2
            and _close(captured[0], features(model, x))
            and _close(captured[1], logits)
        )
    finally:
        watch.remove()
        network.train(training)
    return last if same else None


def set_head(model: nn.Module, weight: Tensor, bias: Tensor) -> None:
    """Give the classifier these values: `weight` [C, D], `bias` [C]. The model must be one that
    `head` finds."""
    last: Any = head(model)
    assert last is not None, "head(model) finds one"
    assert (weight.shape, bias.shape) == (last.weight.flatten(1).shape, last.bias.shape), (
        "[C, D] and [C]"
    )
    with torch.no_grad():
        last.weight.copy_(weight.view_as(last.weight))
        last.bias.copy_(bias)


def _close(first: Tensor, second: Any) -> bool:
    return (
        isinstance(second, Tensor)
        and first.numel() == second.numel()
        and torch.allclose(first.flatten(1), second.flatten(1), rtol=1e-4, atol=1e-5)
    )
