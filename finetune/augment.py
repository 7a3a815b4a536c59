"""Augmentation: per picture on the host (crop, flip), per batch on the device (normalisation, Random Erasing).

Randomness is a function of (seed, epoch, index) on the host and of (seed, step) on the device, and of nothing else: the
result does not depend on the number of workers, nor on where a run was interrupted.
"""

import hashlib
import random
from functools import cache

import numpy as np
import torch
from PIL import Image, ImageOps
from timm.data.random_erasing import RandomErasing
from torchvision.transforms import RandomResizedCrop

from finetune.recipe import Recipe
from zoo.preprocess import FILTERS, Preprocessing, resize_crop


def seed_everything(*key: int | str) -> None:
    """Seed Python's and torch's generators from a key such as (seed, epoch, index)."""
    value = int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "big") >> 1
    random.seed(value)
    torch.manual_seed(value)


def augment(picture: Image.Image, recipe: Recipe, pre: Preprocessing) -> np.ndarray:
    """One training view of a picture: uint8 [size, size, 3]. Draws from torch's generator.

    Random crop of `crop_area` to 1 of the area at an aspect ratio of 3/4 to 4/3 (Szegedy et al., 2015, as torchvision
    does it), then a horizontal flip. With fit squash the aspect ratio is relative to the picture's own, so training
    sees the distortion that evaluation will show; with fit pad the picture is padded first.
    """
    if recipe.crop_area == 1:
        pixels = resize_crop(picture, pre)
    else:
        if recipe.fit == "pad":
            side, border = max(picture.size), tuple(round(255 * v) for v in pre.mean)
            picture = ImageOps.pad(picture, (side, side), color=border)
        own = picture.width / picture.height if recipe.fit == "squash" else 1.0
        top, left, height, width = RandomResizedCrop.get_params(
            picture, scale=[recipe.crop_area, 1.0], ratio=[3 / 4 * own, 4 / 3 * own])
        box = (left, top, left + width, top + height)
        pixels = np.asarray(picture.resize((pre.size, pre.size), FILTERS[pre.interpolation], box=box))
    if torch.rand(()) < recipe.flip:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def normalise(batch_BHWC: torch.Tensor, pre: Preprocessing) -> torch.Tensor:
    """uint8 [B, H, W, 3] -> float32 [B, 3, H, W] in channels_last memory, equal bit for bit to zoo/preprocess.py."""
    x_BHWC = batch_BHWC.float() / 255
    mean, std = _statistics(pre, batch_BHWC.device)
    return ((x_BHWC - mean) / std).permute(0, 3, 1, 2)


@cache
def _statistics(pre: Preprocessing, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and std as tensors; copying them to a GPU at each step would wait for it."""
    return torch.tensor(pre.mean, device=device), torch.tensor(pre.std, device=device)


def erase(x_BCHW: torch.Tensor, probability: float) -> torch.Tensor:
    """Random Erasing with noise (Zhong et al., 2020; timm's), in place, on the tensor's own device."""
    if probability == 0:
        return x_BCHW
    return RandomErasing(probability, mode="pixel", device=str(x_BCHW.device))(x_BCHW)
