"""What hides parts of the pictures of a batch: Random Erasing, Cutout, GridMask, Hide-and-Seek.

The few numbers that place a mask (a centre, a period, an angle) are drawn on the CPU, so that they
are the same for any device; the masks are computed on the device, which is never waited for. What
is hidden becomes 0, the mean colour after normalisation, except by Random Erasing's noise.
"""

import torch
from timm.data.random_erasing import RandomErasing

from finetune.recipe.fields import Recipe

CPU = torch.device("cpu")
LEAST_ERASED = 0.02
"""Random Erasing's smallest rectangle, as a share of the picture's area (Zhong et al., 2020)."""
ERASING_MODES = {"noise": "pixel", "mean": "const"}
"""Fill of Random Erasing -> timm's name for it."""
GRIDMASK_UNIT = (96 / 224, 1.0)
"""Range of GridMask's d, the side of a unit, as a share of the picture's (Chen et al., 2020: 96 to
224 px on ImageNet)."""
HIDDEN_PATCH = (16 / 224, 32 / 224, 44 / 224, 56 / 224)
"""Sides of Hide-and-Seek's patches, as shares of the picture's (Singh and Lee, 2017: 16, 32, 44, 56
of 224 px)."""


def erase(x_BCHW: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """Random Erasing (Zhong et al., 2020; timm's), in place, on the tensor's own device."""
    if recipe.erasing == 0:
        return x_BCHW
    erasing = RandomErasing(
        recipe.erasing,
        min_area=LEAST_ERASED,
        max_area=recipe.erasing_area,
        min_aspect=1 / recipe.erasing_ratio,
        mode=ERASING_MODES[recipe.erasing_fill],
        device=str(x_BCHW.device),
    )
    return erasing(x_BCHW)


def hide(x_BCHW: torch.Tensor, recipe: Recipe, *, progress: float = 1.0) -> torch.Tensor:
    """Cutout, GridMask and Hide-and-Seek, in place: each acts on a picture with its own
    probability. `progress`: share of the run's epochs that are over, by which GridMask grows."""
    # they draw from one generator, so in another order all of them would hide other places
    kinds = (
        (cutout_mask, recipe.cutout, recipe.cutout),
        (gridmask_mask, recipe.gridmask, gridmask_probability(recipe, progress)),
        (hide_and_seek_mask, recipe.hide_and_seek, recipe.hide_and_seek),
    )
    batch, device = len(x_BCHW), x_BCHW.device
    for mask_of, switched_on, probability in kinds:
        if switched_on:
            mask_BHW = mask_of(batch, x_BCHW.shape[-1], recipe, device)
            spared_B11 = on_device(torch.rand(batch, 1, 1) >= probability, device)
            # twice as fast on the CPU as masked_fill_
            x_BCHW.mul_((~mask_BHW | spared_B11)[:, None])
    return x_BCHW


def gridmask_probability(recipe: Recipe, progress: float) -> float:
    """GridMask's probability in an epoch: it grows in a straight line over `gridmask_growth` of the
    run, as Chen et al. let it."""
    if recipe.gridmask_growth == 0:
        return recipe.gridmask
    return recipe.gridmask * min(1.0, progress / recipe.gridmask_growth)


def on_device(drawn: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy what was drawn on the CPU to the device, without waiting for it."""
    if device.type == "cuda":
        # from memory that may be swapped out, the copy would begin when the GPU is idle
        drawn = drawn.pin_memory()
    return drawn.to(device, non_blocking=True)


def cutout_mask(batch: int, side: int, recipe: Recipe, device: torch.device = CPU) -> torch.Tensor:
    """bool [B, side, side]: a square around an even random centre, cut off where it leaves the
    picture (DeVries and Taylor, 2017)."""
    half = recipe.cutout_side * side / 2
    centre_B2 = on_device(torch.rand(batch, 2) * side, device)
    places_S = torch.arange(side, device=device) + 0.5
    inside_B2S = (places_S - centre_B2[:, :, None]).abs() <= half
    return inside_B2S[:, 0, :, None] & inside_B2S[:, 1, None, :]


def gridmask_mask(
    batch: int, side: int, recipe: Recipe, device: torch.device = CPU
) -> torch.Tensor:
    """bool [B, side, side]: squares of side (1 - r) d in a grid of period d, shifted at random, and
    turned by up to `gridmask_rotate` degrees around the centre (Chen et al., 2020)."""
    low, high = (round(share * side) for share in GRIDMASK_UNIT)
    unit_B = torch.randint(low, high + 1, (batch,))
    shift_B2 = (torch.rand(batch, 2) * unit_B[:, None]).long()
    hidden_B = ((1 - recipe.gridmask_kept) * unit_B).round()
    numbers_B5 = torch.column_stack((unit_B, hidden_B, shift_B2, torch.zeros(batch)))
    if recipe.gridmask_rotate:
        numbers_B5[:, 4] = torch.rand(batch) * recipe.gridmask_rotate
    numbers_B5 = on_device(numbers_B5, device)
    unit_B11, hidden_B11, down_B11, right_B11, angle_B11 = numbers_B5[..., None, None].unbind(1)
    places_S = torch.arange(side, device=device)
    y, x = places_S[:, None], places_S[None, :]
    if recipe.gridmask_rotate:
        y, x = _turned(y, x, angle_B11, centre=(side - 1) / 2)
    return ((y + down_B11) % unit_B11 < hidden_B11) & ((x + right_B11) % unit_B11 < hidden_B11)


def _turned(
    y: torch.Tensor, x: torch.Tensor, degrees_B11: torch.Tensor, *, centre: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Coordinates of pixels in axes turned around the centre, [B, side, side] each."""
    y, x, angle_B11 = y - centre, x - centre, degrees_B11.deg2rad()
    cosine_B11, sine_B11 = angle_B11.cos(), angle_B11.sin()
    return (
        cosine_B11 * y - sine_B11 * x + centre,
        cosine_B11 * x + sine_B11 * y + centre,
    )


def hide_and_seek_mask(
    batch: int, side: int, recipe: Recipe, device: torch.device = CPU
) -> torch.Tensor:
    """bool [B, side, side]: a grid of patches, of one random size for a picture, each hidden with
    probability `hide_and_seek_share` (Singh and Lee, 2017: 0.5)."""
    sizes = torch.tensor([max(1, round(share * side)) for share in HIDDEN_PATCH])
    patch_B = sizes[torch.randint(len(sizes), (batch,))]
    cells = (side - 1) // int(patch_B.min()) + 1
    hidden_BGG = on_device(torch.rand(batch, cells, cells) < recipe.hide_and_seek_share, device)
    cell_BS = torch.arange(side, device=device) // on_device(patch_B, device)[:, None]
    hidden_BSG = hidden_BGG.gather(1, cell_BS[:, :, None].expand(-1, -1, cells))
    return hidden_BSG.gather(2, cell_BS[:, None].expand(-1, side, -1))
