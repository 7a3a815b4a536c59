"""An earlier stage of a network, whose features are joined to the embedding to tell foreign
pictures.

Fine-tuning turns the last features to the classes alone; those of earlier stages change less, and
still tell other pictures (tests/bench/RESULTS.md). `zoo.contract.decision.Early` says which stage,
and how its parts are scaled.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoo.contract.decision import Early

EARLY_STRIDE = 8
"""Stride of the stage that is joined to the embedding: of five stages of EfficientNet-Lite0 this
one kept most of what tells foreign pictures (tests/bench/RESULTS.md)."""


def embedding_parts(model: nn.Module, x: Tensor, stage: int) -> list[Tensor]:
    """What `joined_parts` joins: pooled features [B, D], mean and deviation of a stage [B,
    channels] each, in float32."""
    network: Any = model
    feature_map, stages = network.forward_intermediates(x, indices=[stage])
    return parts_of(network, feature_map, stages[0])


def parts_of(network: Any, feature_map: Tensor, stage_BCHW: Tensor) -> list[Tensor]:
    """The parts, from what one pass gave: the last feature map, and that of the stage."""
    # float32, because squares of half precision overflow
    pooled = network.forward_head(feature_map, pre_logits=True).flatten(1).float()
    places_BCN = stage_BCHW.float().flatten(2)
    mean_BC1 = places_BCN.mean(2, keepdim=True)
    return [pooled, mean_BC1.squeeze(2), (places_BCN - mean_BC1).square().mean(2).sqrt()]


def joined_parts(parts: Sequence[Tensor], early: Early) -> Tensor:
    """Each part scaled to length 1, shorter ones to less, side by side: float32 [B, D + 2 *
    channels]."""
    lengths = [
        part.square().sum(1, keepdim=True).sqrt().clamp(min=least)
        for part, least in zip(parts, early.shortest, strict=True)
    ]
    return torch.cat([part / length for part, length in zip(parts, lengths, strict=True)], 1)


@torch.no_grad()
def early_stage(model: nn.Module, size: int) -> int | None:
    """The last stage with a place for each EARLY_STRIDE pixels, for `Early`; tried with one random
    picture of `size`.

    None where there is none before the last one (plain vision transformers), or where the
    architecture does not give its stages beside the very features that its head takes.
    """
    network: Any = model
    if not hasattr(network, "forward_intermediates"):
        return None
    training, weight = network.training, next(network.parameters())
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(
        weight.device, weight.dtype
    )
    # evaluation mode: batch norms would take the random picture into their statistics
    last, stages = network.eval().forward_intermediates(x)
    features = network.forward_features(x)
    same = last.shape == features.shape and torch.allclose(last, features, rtol=1e-4, atol=1e-5)
    network.train(training)
    strides = [round(size / stage.shape[-1]) for stage in stages]
    if not same or EARLY_STRIDE not in strides or strides[-1] <= EARLY_STRIDE:
        return None
    return len(strides) - 1 - strides[::-1].index(EARLY_STRIDE)
