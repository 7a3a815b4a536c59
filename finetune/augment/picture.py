"""Augmentation per picture, on the host (crop, flip, shapes, colours); finetune/augment/batch.py
has what acts on a batch.

Randomness is a function of (seed, epoch, index) on the host and of (seed, step) on the device, and
of nothing else: the result does not depend on the number of workers, nor on where a run was
interrupted.
"""

import hashlib
import random
from functools import cache

import numpy as np
import torch
from PIL import Image, ImageOps
from torchvision.transforms import InterpolationMode, RandomResizedCrop, v2

from finetune.augment.policy import Change, policy_changes
from finetune.recipe.fields import Recipe
from zoo.picture.preprocess import FILTERS, Preprocessing, resize_crop

COLOUR_VALUES = np.array([0.2175, 0.0188, 0.0045])
COLOUR_VECTORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)
"""Eigenvalues of ImageNet's colours (0 to 1) and, as columns, eigenvectors: those of
facebook/fb.resnet.torch."""


def seed_of(*key: int | str) -> int:
    """A generator's seed from a key such as (seed, epoch, index)."""
    # not hash(), which differs from process to process
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "big") >> 1


def seed_everything(*key: int | str) -> None:
    """Seed Python's and torch's generators from a key: the CPU's, and the device's where one is in
    use."""
    value = seed_of(*key)
    random.seed(value)
    if torch.cuda.is_initialized() or torch.backends.mps.is_available():
        torch.manual_seed(value)
    else:
        # the same bits; torch.manual_seed formats a stack trace for the GPU to come, 0.3 ms for
        # each picture
        torch.default_generator.manual_seed(value)


def augment(picture: Image.Image, recipe: Recipe, pre: Preprocessing) -> np.ndarray:
    """One training view of a picture: uint8 [size, size, 3]. Draws from torch's generator.

    Random crop of `crop_area` to 1 of the area at an aspect ratio of 1 / `crop_ratio` to
    `crop_ratio` (Szegedy et al., 2015, as torchvision does it), a horizontal flip, then the
    recipe's further changes (`_changes`). With fit squash the aspect ratio is relative to the
    picture's own, so training sees the distortion that evaluation will show; with fit pad the
    picture is padded first. For AugMix's consistency loss it gives three views of one crop, [3,
    size, size, 3], the first without the policy (Hendrycks et al., 2020).
    """
    if recipe.crop_area == 1:
        pixels = resize_crop(picture, pre)
    else:
        pixels = random_crop(picture, recipe, pre)
    if torch.rand(()) < recipe.flip:
        pixels = pixels[:, ::-1]
    pixels = np.ascontiguousarray(pixels)
    before, policy, after = _changes(recipe, pre)
    if recipe.views == 1:
        return _changed(pixels, before + policy + after)
    pixels = _changed(pixels, before)
    views = [_changed(pixels, after)]
    views += [_changed(pixels, policy + after) for _ in range(1, recipe.views)]
    return np.stack(views)


def _changed(pixels: np.ndarray, chain: tuple[Change, ...]) -> np.ndarray:
    """The picture after all changes of a chain: uint8 [size, size, 3]."""
    if not chain:
        return pixels
    view = Image.fromarray(pixels)
    for change in chain:
        view = change(view)
    return np.array(view)


def random_crop(picture: Image.Image, recipe: Recipe, pre: Preprocessing) -> np.ndarray:
    """A random part of a picture, at the network's size: uint8 [size, size, 3]."""
    if recipe.fit == "pad":
        side = max(picture.size)
        picture = ImageOps.pad(picture, (side, side), color=tuple(mean_colour(pre)))
    own = picture.width / picture.height if recipe.fit == "squash" else 1.0
    ratio = recipe.crop_ratio
    top, left, height, width = RandomResizedCrop.get_params(
        picture, scale=[recipe.crop_area, 1.0], ratio=[1 / ratio * own, ratio * own]
    )
    box = (left, top, left + width, top + height)
    return np.asarray(picture.resize((pre.size, pre.size), FILTERS[pre.interpolation], box=box))


def mean_colour(pre: Preprocessing) -> list[int]:
    """The mean that preprocessing subtracts, as a colour from 0 to 255."""
    return [round(255 * value) for value in pre.mean]


@cache
def _changes(recipe: Recipe, pre: Preprocessing) -> tuple[tuple[Change, ...], ...]:
    """What happens to a picture of the network's size, in order: before the policy, by it, after
    it. Padding, rotation and jitter but for the hue are torchvision's.

    Corners that a rotation leaves empty get the mean colour; the border of `crop_padding` is black.
    """
    mean = mean_colour(pre)
    before: list[Change] = []
    if recipe.crop_padding:
        before.append(v2.RandomCrop(pre.size, padding=recipe.crop_padding))
    if recipe.rotate:
        before.append(v2.RandomRotation(recipe.rotate, InterpolationMode.BILINEAR, fill=mean))
    after: list[Change] = []
    if recipe.color_jitter:
        after.append(v2.ColorJitter(*[recipe.color_jitter] * 3))
    if recipe.hue_jitter:
        after.append(lambda view: scale_hue(view, _factor(recipe.hue_jitter)))
    if recipe.pca_noise:
        after.append(lambda view: add_colour(view, torch.randn(3).numpy() * recipe.pca_noise))
    return tuple(before), policy_changes(recipe, pre.size, mean), tuple(after)


def _factor(spread: float) -> float:
    """A factor drawn evenly from 1 - spread to 1 + spread."""
    return 1 + spread * (2 * float(torch.rand(())) - 1)


def scale_hue(picture: Image.Image, factor: float) -> Image.Image:
    """The picture with all hues (0 = red, 1/3 = green, 2/3 = blue, 1 = red again) multiplied by a
    factor, as He et al., 2019, scale them."""
    hue, saturation, value = picture.convert("HSV").split()
    hue = hue.point([round(factor * level) % 256 for level in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def add_colour(picture: Image.Image, alpha_3: np.ndarray) -> Image.Image:
    """The picture plus one colour, the sum of alpha_i * value_i * vector_i (Krizhevsky et al.,
    2012)."""
    colour = 255 * COLOUR_VECTORS @ (alpha_3 * COLOUR_VALUES)
    return Image.fromarray((np.asarray(picture) + colour).round().clip(0, 255).astype(np.uint8))


def normalise(batch_BHWC: torch.Tensor, pre: Preprocessing) -> torch.Tensor:
    """uint8 [B, H, W, 3] -> float32 [B, 3, H, W] in channels_last memory, equal bit for bit to
    zoo/picture/preprocess.py."""
    x_BHWC = batch_BHWC.float() / 255
    mean, std = _statistics(pre, batch_BHWC.device)
    return ((x_BHWC - mean) / std).permute(0, 3, 1, 2)


@cache
def _statistics(pre: Preprocessing, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and std as tensors; copying them to a GPU at each step would wait for it."""
    return torch.tensor(pre.mean, device=device), torch.tensor(pre.std, device=device)
