"""Augmentation per batch, on the device: parts of a picture hidden, pictures mixed.

All randomness comes from Python's and torch's seeded generators; positions are drawn on the CPU, so
that they are the same for any device. What is hidden becomes 0, the mean colour after
normalisation.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch
from timm.data.random_erasing import RandomErasing
from torchvision.transforms import v2

from finetune.recipe.fields import Recipe

CUTOUT_SIDE = 1 / 2
"""Side of the hidden square, as a share of the picture's (DeVries and Taylor, 2017: 16 of 32 px on
CIFAR-10)."""
GRIDMASK_KEPT = 0.6
"""GridMask's r: share of a unit's side that the strip between two hidden squares takes (Chen et
al., 2020)."""
GRIDMASK_UNIT = (96 / 224, 1.0)
"""Range of GridMask's d, the side of a unit, as a share of the picture's (Chen et al.: 96 to 224 px
on ImageNet)."""
HIDDEN_PATCH = (16 / 224, 32 / 224, 44 / 224, 56 / 224)
"""Sides of Hide-and-Seek's patches, as shares of the picture's (Singh and Lee, 2017: 16, 32, 44, 56
of 224 px)."""
HIDDEN_SHARE = 0.5
"""Probability that a patch is hidden (Singh and Lee)."""


def augment_batch(
    x_BCHW: torch.Tensor,
    labels_B: torch.Tensor,
    recipe: Recipe,
    classes: int,
    *,
    mixing: AbstractContextManager[None] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The batch that a step sees: normalised float pictures, and labels [B], or probabilities [B,
    classes] if mixed.

    Random Erasing, Cutout, GridMask and Hide-and-Seek act on each picture with their own
    probability; then each batch is mixed. With both mixup and cutmix, each batch takes one of them,
    evenly. May change `x_BCHW` in place. `mixing` is entered where pictures are mixed: several
    processes draw the same share there.
    """
    x_BCHW = erase(x_BCHW, recipe.erasing)
    if masks := hiding_masks(len(x_BCHW), x_BCHW.shape[-1], recipe):
        shown_BHW = (~torch.stack(masks).any(0)).to(x_BCHW.device, non_blocking=True)
        # twice as fast on the CPU as masked_fill_
        x_BCHW = x_BCHW.mul_(shown_BHW[:, None])
    if recipe.mixup == recipe.cutmix == 0:
        return x_BCHW, labels_B
    with mixing or nullcontext():
        return _mixing(recipe.mixup, recipe.cutmix, classes)(x_BCHW, labels_B)


def hiding_masks(batch: int, side: int, recipe: Recipe) -> list[torch.Tensor]:
    """bool [B, side, side] of each augmentation of the recipe that hides parts of pictures."""
    # they draw from one generator, so in another order all of them would hide other places
    kinds = (
        (cutout_mask, recipe.cutout),
        (gridmask_mask, recipe.gridmask),
        (hide_and_seek_mask, recipe.hide_and_seek),
    )
    masks = []
    for mask_of, probability in kinds:
        if probability > 0:
            masks.append(mask_of(batch, side) & (torch.rand(batch, 1, 1) < probability))
    return masks


def erase(x_BCHW: torch.Tensor, probability: float) -> torch.Tensor:
    """Random Erasing with noise (Zhong et al., 2020; timm's), in place, on the tensor's own
    device."""
    if probability == 0:
        return x_BCHW
    return RandomErasing(probability, mode="pixel", device=str(x_BCHW.device))(x_BCHW)


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


def cutout_mask(batch: int, side: int) -> torch.Tensor:
    """bool [B, side, side]: a square around an even random centre, cut off where it leaves the
    picture."""
    half = CUTOUT_SIDE * side / 2
    centre_B2 = torch.rand(batch, 2) * side
    inside_B2S = (torch.arange(side) + 0.5 - centre_B2[:, :, None]).abs() <= half
    return inside_B2S[:, 0, :, None] & inside_B2S[:, 1, None, :]


def gridmask_mask(batch: int, side: int) -> torch.Tensor:
    """bool [B, side, side]: squares of side (1 - r) d in a grid of period d, shifted at random; not
    rotated."""
    low, high = (round(share * side) for share in GRIDMASK_UNIT)
    unit_B = torch.randint(low, high + 1, (batch,))
    shift_B2 = (torch.rand(batch, 2) * unit_B[:, None]).long()
    in_unit_B2S = (torch.arange(side) + shift_B2[:, :, None]) % unit_B[:, None, None]
    inside_B2S = in_unit_B2S < ((1 - GRIDMASK_KEPT) * unit_B).round()[:, None, None]
    return inside_B2S[:, 0, :, None] & inside_B2S[:, 1, None, :]


def hide_and_seek_mask(batch: int, side: int) -> torch.Tensor:
    """bool [B, side, side]: a grid of patches, of one random size for a picture, each hidden with
    probability 0.5."""
    sizes = torch.tensor([max(1, round(share * side)) for share in HIDDEN_PATCH])
    patch_B = sizes[torch.randint(len(sizes), (batch,))]
    cell_BS = torch.arange(side) // patch_B[:, None]
    cells = int(cell_BS.max()) + 1
    hidden_BGG = torch.rand(batch, cells, cells) < HIDDEN_SHARE
    hidden_BSG = hidden_BGG.gather(1, cell_BS[:, :, None].expand(-1, -1, cells))
    return hidden_BSG.gather(2, cell_BS[:, None].expand(-1, side, -1))
