"""Augmentation per batch, on the device: parts of a picture hidden, pictures mixed.

All randomness comes from Python's and torch's seeded generators.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch
from torchvision.transforms import v2

from finetune.augment.hiding import erase, hide
from finetune.recipe.fields import Recipe


def augment_batch(
    x_BCHW: torch.Tensor,
    labels_B: torch.Tensor,
    recipe: Recipe,
    classes: int,
    *,
    mixing: AbstractContextManager[None] | None = None,
    progress: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The batch that a step sees: normalised float pictures, and labels [B], or probabilities [B,
    classes] if mixed.

    Random Erasing, Cutout, GridMask and Hide-and-Seek act on each picture with their own
    probability; then each batch is mixed. With both mixup and cutmix, each batch takes one of them,
    evenly. May change `x_BCHW` in place. `mixing` is entered where pictures are mixed: several
    processes draw the same share there. `progress`: share of the run's epochs that are over.
    """
    x_BCHW = hide(erase(x_BCHW, recipe), recipe, progress=progress)
    if recipe.mixup == recipe.cutmix == 0:
        return x_BCHW, labels_B
    with mixing or nullcontext():
        return _mixing(recipe.mixup, recipe.cutmix, classes)(x_BCHW, labels_B)


@cache
def _mixing(mixup: float, cutmix: float, classes: int) -> v2.Transform:
    """x' = lam x + (1 - lam) x_before, lam from Beta(alpha, alpha) (Zhang et al., 2018), or a box
    of area 1 - lam from the picture before it (Yun et al., 2019); targets in the same shares.
    torchvision's; one lam for a batch."""
    kinds: list[v2.Transform] = []
    if mixup > 0:
        kinds.append(v2.MixUp(alpha=mixup, num_classes=classes))
    if cutmix > 0:
        kinds.append(v2.CutMix(alpha=cutmix, num_classes=classes))
    if len(kinds) == 1:
        return kinds[0]
    return v2.RandomChoice(kinds)
