"""The optimiser of a recipe."""

import torch
from timm.optim import param_groups_weight_decay
from torch import nn

from finetune.recipe import Recipe


def optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW, Adam or SGD with Nesterov momentum 0.9, over two groups: biases and norms (and what the model names, such
    as position embeddings) without weight decay, everything else with it. The rate is set at each step."""
    names = model.no_weight_decay() if hasattr(model, "no_weight_decay") else ()  # type: ignore[operator]
    fused = next(model.parameters()).device.type in ("cpu", "cuda")
    groups = param_groups_weight_decay(model, recipe.weight_decay, no_weight_decay_list=tuple(names))
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9, nesterov=True, fused=fused)
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[recipe.optimizer]
    return kind(groups, lr=recipe.lr, fused=fused)
