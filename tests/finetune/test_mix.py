"""What a step sees: hidden parts against their papers' geometry, mixtures against their formulas
and timm's."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timm.data.mixup import Mixup, mixup_target
from timm.data.random_erasing import RandomErasing

from finetune.augment.batch import augment_batch
from finetune.augment.hiding import (
    HIDDEN_PATCH,
    cutout_mask,
    gridmask_mask,
    gridmask_probability,
    hide_and_seek_mask,
)
from finetune.augment.picture import seed_everything
from finetune.pipeline import start
from finetune.recipe.fields import Recipe
from finetune.recipe.run import Run
from tests.made_recipe import made_recipe
from zoo.contract import rundir

Mask = Callable[[int, int, Recipe], torch.Tensor]
MASKS: dict[str, Mask] = {
    "cutout": cutout_mask,
    "gridmask": gridmask_mask,
    "hide_and_seek": hide_and_seek_mask,
}
EVERYTHING: dict[str, Any] = {
    "erasing": 0.5,
    "cutout": 0.5,
    "gridmask": 0.5,
    "hide_and_seek": 0.5,
    "mixup": 0.4,
    "cutmix": 1.0,
}


def batch(count: int = 6, side: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """(pictures in channels_last memory without a zero, the labels 0, 1, 2, ...)."""
    x_BCHW = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0)) + 0.5
    return x_BCHW.to(memory_format=torch.channels_last), torch.arange(count)


def seen(step: int, count: int = 6, **values: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """What step `step` makes of `batch`; only what is named is on."""
    seed_everything(0, "step", step)
    return augment_batch(*batch(count), made_recipe(**{"erasing": 0.0} | values), count)


def masks(mask: Mask, count: int, side: int, **values: Any) -> np.ndarray:
    seed_everything(0, mask.__name__)
    return mask(count, side, made_recipe(**values)).numpy()


def runs(line: np.ndarray) -> list[tuple[int, int]]:
    """(start, length) of the stretches of True."""
    edges = np.flatnonzero(np.diff(np.r_[False, line, False]))
    return list(zip(edges[::2].tolist(), (edges[1::2] - edges[::2]).tolist(), strict=True))


# --- the whole function


def test_with_all_off_nothing_changes_and_nothing_is_drawn() -> None:
    seed_everything(3)
    before = torch.get_rng_state()
    x_BCHW, labels = batch()
    got, targets = augment_batch(x_BCHW, labels, made_recipe(erasing=0.0), 6)
    assert got is x_BCHW
    assert targets is labels
    assert torch.equal(torch.get_rng_state(), before)


def test_erasing_alone_is_timms_to_the_bit() -> None:
    got, targets = seen(5, erasing=0.7)
    seed_everything(0, "step", 5)
    theirs = RandomErasing(0.7, mode="pixel", device="cpu")
    assert torch.equal(got, theirs(batch()[0]))
    assert torch.equal(targets, batch()[1])


def test_randomness_is_of_the_step_alone() -> None:
    np.random.seed(1)
    one = seen(1, **EVERYTHING)
    np.random.seed(2)
    again, other = seen(1, **EVERYTHING), seen(2, **EVERYTHING)
    assert all(map(torch.equal, one, again))
    assert not torch.equal(one[0], other[0])
    assert one[0].is_contiguous(memory_format=torch.channels_last)
    assert one[0].dtype == one[1].dtype == torch.float32


@pytest.mark.parametrize("name", MASKS)
def test_hidden_pixels_are_zero_in_all_channels_and_the_others_stay(name: str) -> None:
    got, targets = seen(0, 400, **{name: 0.25})
    plain = batch(400)[0]
    hidden = got == 0
    assert torch.equal(hidden[:, 0], hidden.all(1))
    assert torch.equal(hidden.any(1), hidden.all(1))
    assert torch.equal(got[~hidden], plain[~hidden])
    assert 60 < hidden.flatten(1).any(1).sum() < 140  # a probability, picture by picture
    assert torch.equal(targets, torch.arange(400))


# --- hidden parts


def test_cutout_is_a_square_of_half_the_side_cut_off_at_the_border() -> None:
    for mask in masks(cutout_mask, 300, 32):
        rows, columns = runs(mask.any(1)), runs(mask.any(0))
        assert len(rows) == len(columns) == 1
        assert mask.sum() == rows[0][1] * columns[0][1]
        for first, length in (*rows, *columns):
            assert length == 16 or (7 <= length < 16 and (first == 0 or first + length == 32))


def test_cutouts_centre_is_even_over_the_picture() -> None:
    """A pixel in the middle is hidden with probability 1/2 * 1/2, one in a corner with half of
    each."""
    often = masks(cutout_mask, 4_000, 32).mean(0)
    assert often[15:17, 15:17].mean() == pytest.approx(1 / 4, abs=0.03)
    assert often[[0, 0, -1, -1], [0, -1, 0, -1]].mean() == pytest.approx(
        (1 / 2 * (16.5 / 32)) ** 2, abs=0.03
    )


def test_gridmask_is_a_grid_of_squares() -> None:
    """Unit d from 96/224 of the side to the side; squares of (1 - r) d, r = 0.6; so 1 - (2 r - r^2)
    is hidden."""
    all_masks = masks(gridmask_mask, 2_000, 112)
    for mask in all_masks[:300]:
        rows, columns = runs(mask.any(1)), runs(mask.any(0))
        assert np.array_equal(mask, mask.any(1)[:, None] & mask.any(0)[None, :])
        inner = [length for first, length in (*rows, *columns) if first and first + length < 112]
        assert len(set(inner)) <= 1
        assert all(18 <= length <= 45 for length in inner)  # 0.4 * 48 to 0.4 * 112
        for stretches in (rows, columns):
            starts = [first for first, _ in stretches if first]
            period = {second - first for first, second in pairwise(starts)}
            assert all(abs(0.4 * unit - length) <= 0.5 for unit in period for length in inner)
    assert all_masks.mean() == pytest.approx((1 - 0.6) ** 2, abs=0.01)


def test_hide_and_seek_hides_half_of_the_patches() -> None:
    all_masks = masks(hide_and_seek_mask, 150, 112)
    sizes = {round(share * 112) for share in HIDDEN_PATCH}
    assert sizes == {8, 16, 22, 28}
    found = set()
    for mask in all_masks:
        fits = [
            size
            for size in sizes
            if all(
                mask[y : y + size, x : x + size].min() == mask[y : y + size, x : x + size].max()
                for y in range(0, 112, size)
                for x in range(0, 112, size)
            )
        ]
        assert fits
        found.add(max(fits))
    assert found == sizes
    assert all_masks.mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("share", "side"), [(0.25, 8), (0.5, 16), (1.0, 32)])
def test_how_large_cutouts_square_is(share: float, side: int) -> None:
    lengths = [
        length
        for mask in masks(cutout_mask, 200, 32, cutout_side=share)
        for _, length in runs(mask.any(0))
    ]
    assert max(lengths) == side


def test_random_erasing_as_paddleclas_has_it() -> None:
    """0.02 to 0.4 of the area, 0.3 to 1 / 0.3 times as high as wide, filled with the mean."""
    values = {"erasing": 1.0, "erasing_area": 0.4, "erasing_ratio": 1 / 0.3, "erasing_fill": "mean"}
    erased = []
    for step in range(200):
        got, _ = seen(step, 1, **values)
        hidden = (got == 0)[0].all(0)
        assert torch.equal(hidden, (got != batch(1)[0])[0].any(0))
        [(_, height)], [(_, width)] = runs(hidden.any(1).numpy()), runs(hidden.any(0).numpy())
        assert hidden.sum() == height * width
        erased.append((height * width / 32**2, height / width))
    areas, ratios = np.array(erased).T
    assert 0.01 < areas.min() < 0.05
    assert 0.36 < areas.max() < 0.42
    # sides are rounded to whole pixels
    assert 0.25 < ratios.min() < 0.45
    assert 2.4 < ratios.max() < 4


def test_gridmask_as_paddleclas_has_it() -> None:
    """At ratio 0.5 a quarter is hidden, in squares of half the period."""
    halves = masks(gridmask_mask, 2_000, 112, gridmask_kept=0.5)
    assert halves.mean() == pytest.approx(0.25, abs=0.01)
    inner = [
        length
        for mask in halves[:300]
        for first, length in runs(mask.any(0))
        if first and first + length < 112
    ]
    assert 24 <= min(inner) <= 26  # half of 48 px
    assert 52 <= max(inner) <= 56


def test_a_turned_grid_hides_as_much_and_lies_askew(monkeypatch: pytest.MonkeyPatch) -> None:
    straight = masks(gridmask_mask, 400, 112)
    turned = masks(gridmask_mask, 400, 112, gridmask_rotate=360.0)
    assert turned.mean() == pytest.approx(straight.mean(), abs=0.02)
    lying = [(mask == mask.any(1)[:, None] & mask.any(0)[None]).all() for mask in turned]
    assert np.mean(lying) < 0.1
    rand = torch.rand
    # the angle is drawn last, one number for each picture: here a quarter turn
    monkeypatch.setattr(
        torch, "rand", lambda *size: torch.full(size, 0.25) if len(size) == 1 else rand(*size)
    )
    quarter = masks(gridmask_mask, 5, 112, gridmask_rotate=360.0)
    plain = masks(gridmask_mask, 5, 112)
    # but for pixels on the border of a square
    assert (quarter == np.rot90(plain, -1, axes=(1, 2))).mean() > 0.95


def test_gridmask_grows_over_the_run() -> None:
    """Up to its probability at epoch 240 of 300, in a straight line."""
    recipe = made_recipe(erasing=0.0, gridmask=0.8, gridmask_growth=0.8)
    shares = [gridmask_probability(recipe, epoch / 300) for epoch in (0, 120, 240, 299)]
    assert shares == pytest.approx([0, 0.4, 0.8, 0.8])
    assert gridmask_probability(made_recipe(gridmask=0.8), 0.0) == 0.8
    seed_everything(0)
    early, _ = augment_batch(*batch(40), recipe, 40, progress=0.0)
    assert torch.equal(early, batch(40)[0])
    late, _ = augment_batch(*batch(200), recipe, 200)
    assert 135 < (late == 0).flatten(1).any(1).sum() < 180


def test_how_much_hide_and_seek_hides() -> None:
    few = masks(hide_and_seek_mask, 400, 112, hide_and_seek_share=0.2)
    assert few.mean() == pytest.approx(0.2, abs=0.02)


# --- mixtures


def test_mixup_is_the_papers() -> None:
    shares = []
    for step in range(40):
        got, targets = seen(step, mixup=0.4)
        x_BCHW, labels = batch()
        lam = targets[0, 0].item()
        shares.append(lam)
        assert torch.allclose(got, lam * x_BCHW + (1 - lam) * x_BCHW.roll(1, 0))
        assert torch.allclose(
            targets, lam * torch.eye(6) + (1 - lam) * torch.eye(6)[labels.roll(1)]
        )
    assert min(shares) < 0.1
    assert max(shares) > 0.9
    # Beta(0.4, 0.4): variance 1 / (4 (2 alpha + 1)) = 0.139, at 1 it would be 0.083
    assert np.var(shares) == pytest.approx(0.139, abs=0.03)


def test_cutmix_is_the_papers() -> None:
    """A box of area 1 - lam around an even random centre, cut off at the border; targets by the
    area pasted."""
    for step in range(40):
        got, targets = seen(step, cutmix=1.0)
        x_BCHW = batch()[0]
        pasted = (got != x_BCHW).any(1)
        rows, columns = runs(pasted[0].any(1).numpy()), runs(pasted[0].any(0).numpy())
        assert (pasted == pasted[0]).all()
        assert pasted[0].sum() == (rows[0][1] * columns[0][1] if rows else 0)
        assert torch.equal(got, torch.where(pasted[:, None], x_BCHW.roll(1, 0), x_BCHW))
        lam = 1 - pasted[0].float().mean().item()
        assert targets[1].tolist() == pytest.approx([1 - lam, lam, 0, 0, 0, 0], abs=1e-6)


def test_mixup_of_a_pair_is_timms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two pictures, ours (the one before) and timm's (the one at the other end) are the same
    partner."""
    got, targets = seen(1, 2, mixup=1.0)
    lam = targets[0, 0].item()
    assert 0.05 < lam < 0.95
    theirs = Mixup(mixup_alpha=1.0, num_classes=2, label_smoothing=0.0)
    monkeypatch.setattr(theirs, "_params_per_batch", lambda: (lam, False))
    x_BCHW, soft = theirs(*batch(2))
    assert torch.allclose(got, x_BCHW)
    assert torch.allclose(targets, soft)


def test_cutmix_of_a_pair_is_timms(monkeypatch: pytest.MonkeyPatch) -> None:
    """timm draws the box with another generator, so it gets ours."""
    got, targets = seen(4, 2, cutmix=1.0)
    pasted = (got != batch(2)[0]).any(1)[0].numpy()
    (top, height), (left, width) = runs(pasted.any(1))[0], runs(pasted.any(0))[0]
    theirs = Mixup(mixup_alpha=0.0, cutmix_alpha=1.0, num_classes=2, label_smoothing=0.0)
    monkeypatch.setattr(theirs, "_params_per_batch", lambda: (0.5, True))
    monkeypatch.setattr(
        "timm.data.mixup.rand_bbox", lambda *_, **__: (top, top + height, left, left + width)
    )
    x_BCHW, soft = theirs(*batch(2))
    assert 0 < pasted.sum() < 32 * 32
    assert torch.equal(got, x_BCHW)
    assert torch.allclose(targets, soft)
    assert torch.allclose(targets, mixup_target(torch.arange(2), 2, 1 - height * width / 32**2))


def test_with_both_each_batch_takes_one() -> None:
    kinds = []
    for step in range(40):
        got, targets = seen(step, mixup=1.0, cutmix=1.0)
        share_changed = (got != batch()[0]).any(1).float().mean().item()
        kinds.append("mixup" if share_changed > 0.99 and targets[0, 0] > 0.01 else "cutmix")
        assert targets.sum(1).tolist() == pytest.approx([1] * 6)
    assert 10 < kinds.count("mixup") < 30


def test_a_batch_of_one_is_mixed_with_itself() -> None:
    got, targets = seen(0, 1, mixup=1.0)
    assert torch.allclose(got, batch(1)[0])
    assert targets.tolist() == [[pytest.approx(1)]]


# --- in a run


@pytest.mark.usefixtures("quick_end")
def test_a_whole_run_takes_everything_at_once(
    digits: Path, tiny_base: Path, tmp_path: Path
) -> None:
    settings = EVERYTHING | {
        "policy": "autoaugment",
        "rotate": 10.0,
        "policy_share": 0.5,
        "color_jitter": 0.4,
        "hue_jitter": 0.4,
        "erasing_fill": "mean",
        "cutout_side": 0.25,
        "gridmask_kept": 0.5,
        "gridmask_rotate": 360.0,
        "gridmask_growth": 0.8,
        "hide_and_seek_share": 0.25,
        "pca_noise": 0.1,
        "crop_padding": 4,
        "balance": "resample",
    }
    start(
        Run(data=str(digits), base=str(tiny_base), out=tmp_path / "run", device="cpu"),
        {"epochs": 2, "threads": 1, "lr": 1e-3} | settings,
    )
    assert rundir.is_finished(tmp_path / "run")
    written = rundir.read_json(tmp_path / "run" / rundir.RECIPE)
    assert {name: written[name]["value"] for name in settings} == settings
    events = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert len([event for event in events if event["name"] == "select/top1"]) == 3
    # classes count the same, so balanced accuracy chose the weights, and the report has it
    best = rundir.read_json(tmp_path / "run" / "report.json")["best"]
    # the digits have four pictures of each class
    assert best["balanced"] == pytest.approx(best["top1"])
