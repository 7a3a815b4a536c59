"""The optimiser of a recipe."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from timm.optim import (
    Lars,
    create_optimizer_v2,
    param_groups_layer_decay,
    param_groups_weight_decay,
)
from torch import nn

from finetune.recipe.fields import Recipe

KINDS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    "momentum": partial(torch.optim.SGD, momentum=0.9),
    # the values of torchvision's reference training of MobileNetV3
    "rmsprop": partial(torch.optim.RMSprop, alpha=0.9, momentum=0.9, eps=0.0316),
    "adagrad": torch.optim.Adagrad,
    "adadelta": torch.optim.Adadelta,
    "lars": partial(Lars, momentum=0.9),
    # the groups have their own
    "ranger": partial(create_optimizer_v2, opt="lookahead_radam", weight_decay=0.0),
}
FUSED = ("adamw", "adam", "sgd", "momentum")
"""Those that torch computes in one kernel on the CPU and on CUDA."""


def optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser over groups of parameters: biases and norms (and what the model names,
    such as position embeddings) without weight decay, everything else with it. The rate is set at
    each step.

    With `layer_decay` d there are two groups a layer, whose `lr_scale` is d to the number of layers
    above it; layers are those of timm's `group_matcher`.
    """
    network: Any = model
    decay = recipe.weight_decay
    names: tuple[str, ...] = ()
    if hasattr(network, "no_weight_decay"):
        names = tuple(network.no_weight_decay())
    if recipe.layer_decay == 1:
        groups = param_groups_weight_decay(model, decay, no_weight_decay_list=names)
    else:
        groups = param_groups_layer_decay(
            model, decay, no_weight_decay_list=names, layer_decay=recipe.layer_decay
        )
    make = KINDS[recipe.optimizer]
    on_known = next(model.parameters()).device.type in ("cpu", "cuda")
    if recipe.optimizer in FUSED and on_known:
        make = partial(make, fused=True)
    return make(groups, lr=recipe.lr)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the next step, scaled for each group of weights."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)
