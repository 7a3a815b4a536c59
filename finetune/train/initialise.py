"""Random weights of a model that is trained from scratch."""

from torch import nn

from finetune.recipe.fields import Recipe
from zoo.network import of_torch


def initialise(model: nn.Module, recipe: Recipe) -> None:
    """Give the model the recipe's random weights; the generator is seeded by the caller.

    kaiming: normal, fan out for convolutions, fan in for linear layers (He et al., 2015); xavier:
    uniform (Glorot and Bengio, 2010); with both, biases of these layers become 0. timm: what the
    architecture does. Batch norms start at 1; with `zero_gamma` the last one of each residual block
    at 0 (Goyal et al., 2017), which `has_zero_gamma(model)` must allow.
    """
    for module in model.modules():
        if recipe.init != "timm" and isinstance(module, (nn.Conv2d, nn.Linear)):
            if recipe.init == "xavier":
                nn.init.xavier_uniform_(module.weight)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            else:
                # by fan in: fan out of a head is its few classes, and the weights would be huge
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, of_torch.BatchNorm) and module.affine:
            nn.init.ones_(module.weight)
    if recipe.zero_gamma:
        for block in _residual_blocks(model):
            block.zero_init_last()  # type: ignore[operator]


def has_zero_gamma(model: nn.Module) -> bool:
    """Whether timm knows the last batch norms of the architecture's residual blocks."""
    return bool(_residual_blocks(model))


def _residual_blocks(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if hasattr(module, "zero_init_last")]
