"""Batches and augmentation: what the network sees, and that it depends on (seed, epoch, index) and
on nothing else."""

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from finetune.augment.batch import erase
from finetune.augment.picture import augment, normalise, seed_everything
from finetune.data import loader
from finetune.data.dataset import Picture
from finetune.data.loader import (
    Batch,
    PictureSource,
    TrainingViews,
    epoch_end,
    epoch_order,
    epochs_done,
    evaluation_batches,
    numbered,
    planned_workers,
    steps_per_epoch,
    training_batches,
    training_keys,
)
from finetune.data.scanning import scan
from finetune.machine import shared_memory
from finetune.sources.class_folders import read_folders
from finetune.train.optimizer import optimizer
from tests.bad_pictures import photo
from tests.made_recipe import made_recipe
from zoo.host.errors import UserError
from zoo.picture import preprocess
from zoo.picture.decoding import decode
from zoo.picture.preprocess import Preprocessing, resize_crop
from zoo.picture.tta import VIEWS, prepare

PRE = Preprocessing(size=16, crop_mode="squash", crop_pct=1.0)
RECIPE = made_recipe(batch_size=4, epochs=3, image_size=16)
few_cores = pytest.mark.filterwarnings("ignore:This DataLoader will create")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven pictures of two classes; each has its own size."""
    root = tmp_path_factory.mktemp("pictures")
    for i in range(11):
        path = root / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        photo(24 + 3 * i, 40 - i).save(path)
    return root


@pytest.fixture(scope="module")
def pictures(root: Path) -> list[Picture]:
    """The eleven pictures, each with a label of its own, so that a batch tells which pictures it
    holds."""
    return [p._replace(label=i) for i, p in enumerate(scan(read_folders(root)).pictures)]


def source(root: Path, *, workers: int = 0) -> PictureSource:
    return PictureSource(root, PRE, workers, pin=False)


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(one, other, strict=True)
    )


# --- batches


def test_evaluation_batches_are_in_order_and_as_deployment_sees_them(
    root: Path, pictures: list[Picture]
) -> None:
    many = (pictures * 7)[: loader.EVALUATION_BATCH + 6]
    batches = list(evaluation_batches(many, source(root)))
    assert [len(labels) for _, labels in batches] == [loader.EVALUATION_BATCH, 6]
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert images.dtype == torch.uint8
    assert labels.tolist() == [p.label for p in many]
    expected = [resize_crop(decode(root / p.path), PRE) for p in many]
    assert np.array_equal(images.numpy(), np.stack(expected))


@pytest.mark.parametrize(
    ("name", "a_batch"), [("none", 64), ("flip", 32), ("five", 12), ("multiscale", 21)]
)
def test_views_of_a_picture_stand_together(
    root: Path, pictures: list[Picture], name: str, a_batch: int
) -> None:
    """A batch holds fewer pictures, so that it takes about the same memory."""
    many = (pictures * 7)[:66]
    batches = list(evaluation_batches(many, source(root), VIEWS[name]))
    assert [len(labels) for _, labels in batches[:-1]] == [a_batch] * (len(batches) - 1)
    assert all(
        images.shape == (len(VIEWS[name]) * len(labels), 16, 16, 3) for images, labels in batches
    )
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert labels.tolist() == [p.label for p in many]
    expected = [prepare(decode(root / p.path), PRE, VIEWS[name]) for p in many]
    assert np.array_equal(images.numpy(), np.concatenate(expected))


def test_more_views_than_a_batch_make_batches_of_one_picture(
    root: Path, pictures: list[Picture]
) -> None:
    batches = list(evaluation_batches(pictures[:2], source(root), VIEWS["flip"] * 40))
    assert [(len(images), len(labels)) for images, labels in batches] == [(80, 1)] * 2


@few_cores
def test_the_number_of_workers_changes_nothing(root: Path, pictures: list[Picture]) -> None:
    alone = list(training_batches(pictures, source(root), RECIPE, 0))
    assert same(alone, list(training_batches(pictures, source(root, workers=2), RECIPE, 0)))


def test_going_on_at_a_step_gives_the_tail_of_the_whole_stream(
    root: Path, pictures: list[Picture]
) -> None:
    stream = list(training_batches(pictures, source(root), RECIPE, 0))
    assert len(stream) == 9  # three epochs of eleven pictures, four at a time
    for first in range(10):
        assert same(list(training_batches(pictures, source(root), RECIPE, first)), stream[first:])


@pytest.mark.parametrize("balance", ["none", "sqrt-resample"])
@pytest.mark.parametrize(
    ("pictures", "batch_size"),
    [(n, b) for b in (1, 4, 32) for n in (1, 3, 4, 5, 31, 32, 33, 47, 63, 64, 95, 127)],
)
def test_an_epoch_is_every_picture_once_whatever_the_batch(
    pictures: int, batch_size: int, balance: str
) -> None:
    """The rest after the last whole batch begins the next epoch's first one; going on at any step
    gives the same."""
    labels, epochs = [i % 3 for i in range(pictures)], 5
    recipe = made_recipe(batch_size=batch_size, epochs=epochs, balance=balance)
    per_epoch, size = steps_per_epoch(pictures, batch_size), min(batch_size, pictures)
    batches = list(training_keys(labels, recipe, 0))
    assert {len(batch) for batch in batches} == {size}
    assert epochs * pictures <= len(batches) * size < epochs * pictures + size
    shown = [key for batch in batches for key in batch]
    for epoch in range(epochs):
        of_it = shown[epoch * pictures : (epoch + 1) * pictures]
        assert of_it == numbered(epoch_order(labels, recipe, epoch), epoch)
        assert balance != "none" or sorted(index for _, index in of_it) == list(range(pictures))
    ends = [epoch_end(epoch, per_epoch) for epoch in range(epochs + 1)]
    assert (ends[0], ends[-1]) == (0, len(batches))
    assert ends == sorted(set(ends))
    # the step after which an epoch is complete, and the epoch in which a step begins
    assert [epochs_done(step, per_epoch) for step in range(len(batches))] == [
        batch[0][0] for batch in batches
    ]
    assert [epochs_done(end, per_epoch) for end in ends] == list(range(epochs + 1))
    for first in {0, 1, len(batches) // 2, len(batches)}:
        assert list(training_keys(labels, recipe, first)) == batches[first:]


def test_epochs_and_seeds_have_orders_of_their_own(root: Path, pictures: list[Picture]) -> None:
    shown = torch.cat(
        [labels for _, labels in training_batches(pictures, source(root), RECIPE, 0)]
    ).tolist()
    epochs = [shown[:11], shown[11:22], shown[22:33]]
    assert all(sorted(epoch) == list(range(11)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 3
    other_seed = training_batches(
        pictures, source(root), made_recipe(batch_size=4, epochs=3, image_size=16, seed=1), 0
    )
    assert next(other_seed)[1].tolist() != shown[:4]


def test_a_batch_holds_the_pictures_that_its_labels_name(
    root: Path, pictures: list[Picture]
) -> None:
    plain = made_recipe(batch_size=4, epochs=1, crop_area=1.0, flip=0.0)
    for images, labels in training_batches(pictures, source(root), plain, 0):
        expected = [
            resize_crop(decode(root / pictures[label].path), PRE) for label in labels.tolist()
        ]
        assert np.array_equal(images.numpy(), np.stack(expected))


def test_fewer_pictures_than_a_batch_make_one_smaller_batch_an_epoch(
    root: Path, pictures: list[Picture]
) -> None:
    batches = list(training_batches(pictures[:3], source(root), RECIPE, 0))
    assert [sorted(labels.tolist()) for _, labels in batches] == [[0, 1, 2]] * 3


@few_cores
@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_became_unreadable_is_named(tmp_path: Path, workers: int) -> None:
    for i in range(4):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        photo(20 + i, 20).save(tmp_path / "ab"[i % 2] / f"{i}.png")
    found = scan(read_folders(tmp_path)).pictures
    (tmp_path / found[1].path).write_bytes(b"\x89PNG\r\n")
    recipe = made_recipe(batch_size=2, epochs=1)
    for batches in (
        evaluation_batches(found, source(tmp_path, workers=workers)),
        training_batches(found, source(tmp_path, workers=workers), recipe, 0),
    ):
        with pytest.raises(
            UserError, match=rf"changed since the run read it: .*{found[1].path}: .*Repair or"
        ):
            list(batches)


# --- processes that decode: room for their batches, and no wait without an end


MB = 10**6


@pytest.mark.parametrize(
    ("wanted", "free", "pinned", "workers"),
    [
        (0, 0, False, 0),
        (2, 60 * MB, False, 2),
        (2, 59 * MB, False, 1),
        (8, 64 * MB, False, 2),
        (2, 39 * MB, False, 0),
        (8, 64 * MB, True, 2),
        (2, 30 * MB, True, 1),
        (2, 29 * MB, True, 0),
        (16, 10**12, True, 16),
    ],
)
def test_processes_are_as_many_as_shared_memory_holds_batches_of(
    wanted: int, free: int, pinned: bool, workers: int
) -> None:
    """Batches of 10 MB: two of each process, and what the network's process holds."""
    assert shared_memory.most_workers(wanted, free, 10 * MB, pinned=pinned) == workers


@pytest.mark.parametrize(
    ("processes", "free", "workers"),
    [
        (1, None, 4),
        (1, 300 * MB, 4),
        (1, 64 * MB, 2),
        (2, 128 * MB, 2),
        (1, 30 * MB, None),
        (2, 64 * MB, None),
    ],
)
def test_a_run_takes_fewer_processes_or_names_the_flags(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    processes: int,
    free: int | None,
    workers: int | None,
) -> None:
    """A batch of 64 pictures of 160 px has 4.9 MB; training and evaluation have their batches at
    the same time."""
    monkeypatch.setattr(shared_memory, "free_bytes", lambda: free)
    monkeypatch.setattr(shared_memory.distributed, "on_this_machine", lambda: (0, processes))
    recipe = made_recipe(batch_size=64, image_size=160)
    if workers is None:
        with pytest.raises(
            UserError, match=r"/dev/shm has .* MB free.* not hold .*--shm-size.*--workers 0"
        ):
            planned_workers(4, 1_000, recipe, pinned=False)
        assert planned_workers(0, 1_000, recipe, pinned=False) == 0
        return
    assert planned_workers(4, 1_000, recipe, pinned=False) == workers
    printed = " ".join(capsys.readouterr().out.split())
    assert ("--shm-size" in printed) is (f"--workers {workers}" in printed) is (workers < 4)


def test_a_gpu_in_a_container_of_docker_trains_at_224_px(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its /dev/shm has 64 MiB."""
    monkeypatch.setattr(shared_memory, "free_bytes", lambda: 64 << 20)
    assert planned_workers(16, 1_000, made_recipe(batch_size=64, image_size=224), pinned=True) == 1


@few_cores
def test_a_disk_of_shared_memory_that_filled_up_later_ends_no_run(
    monkeypatch: pytest.MonkeyPatch,
    root: Path,
    capsys: pytest.CaptureFixture[str],
    pictures: list[Picture],
) -> None:
    monkeypatch.setattr(shared_memory, "free_bytes", lambda: 1_000)
    assert same(
        list(evaluation_batches(pictures, source(root, workers=2))),
        list(evaluation_batches(pictures, source(root))),
    )
    assert "this pass uses 0 of them" in " ".join(capsys.readouterr().out.split())


@few_cores
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGBUS, None])
def test_a_process_that_dies_or_stands_still_is_named(
    monkeypatch: pytest.MonkeyPatch,
    root: Path,
    pictures: list[Picture],
    number: signal.Signals | None,
) -> None:
    """It is started by fork, so it has the changed function too; without a number it never
    answers."""

    def end(*_: object) -> None:
        if number is not None:
            os.kill(os.getpid(), number)
        sleep(60)

    monkeypatch.setattr(loader, "prepare", end)
    monkeypatch.setattr(shared_memory, "LEAST_WAIT_S", 1.0)
    monkeypatch.setattr(shared_memory, "WAIT_A_PICTURE_S", 0.0)
    expected = {
        signal.SIGKILL: "process that decodes pictures died .*Killed.*memory runs out.*--workers 1",
        signal.SIGBUS: r"process that decodes pictures died .*/dev/shm was full.*--shm-size",
        None: r"did not come \(.*after 1\.0 seconds\).*stands still.*--shm-size.*--workers 0",
    }[number]
    with pytest.raises(UserError, match=expected):
        list(evaluation_batches(pictures, source(root, workers=1)))


def test_a_death_is_named_wherever_it_is_noticed() -> None:
    """torch raises it from a signal handler, in whatever the program is doing."""
    with pytest.raises(UserError, match="died"), shared_memory.lost_batches_explained():
        raise RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. ")
    with (
        pytest.raises(RuntimeError, match=r"^shapes do not fit$"),
        shared_memory.lost_batches_explained(),
    ):
        raise RuntimeError("shapes do not fit")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EMFILE, "Too many open files"),
        OSError(errno.ENFILE, "Too many open files in system"),
        RuntimeError(
            "Caught RuntimeError in DataLoader worker process 0.\nRuntimeError: unable to open "
            "shared memory object </torch_1_2_3> in read-write mode: Too many open files (24)"
        ),
    ],
)
def test_too_many_open_files_are_not_called_a_full_folder(error: Exception) -> None:
    expected = r"too many files are open.*ulimit -n 4096.*--workers 1"
    with pytest.raises(UserError, match=expected), shared_memory.lost_batches_explained():
        raise error
    with pytest.raises(PermissionError), shared_memory.lost_batches_explained():
        raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize("pictures", [1, 64, 4096])
def test_the_longest_wait_leaves_slow_disks_seconds_for_each_picture(pictures: int) -> None:
    assert shared_memory.longest_wait_s(pictures) >= max(300, 5 * pictures)


# --- resampling


LONG_TAIL = [0] * 60 + [1] * 30 + [2] * 9 + [3]


@pytest.mark.parametrize(
    ("balance", "power"), [("none", 1.0), ("resample", 0.0), ("sqrt-resample", 0.5)]
)
def test_shares_of_classes_in_an_epoch(balance: str, power: float) -> None:
    """n^power / sum of n^power (Kang et al., 2020, equation 1), and each picture of a class equally
    often."""
    counts = np.bincount(LONG_TAIL)
    shares = counts**power / (counts**power).sum()
    recipe = made_recipe(balance=balance)
    epochs = [epoch_order(LONG_TAIL, recipe, epoch) for epoch in range(30)]
    for order in epochs:
        times = np.bincount(order, minlength=100)
        of_class = np.bincount(np.array(LONG_TAIL)[order], minlength=4)
        assert len(order) == 100
        assert abs(of_class - 100 * shares).max() < 1 + 1e-9
        assert all(np.ptp(times[np.array(LONG_TAIL) == label]) <= 1 for label in range(4))
    # as the independent draws of torch's WeightedRandomSampler on average over epochs
    weights = (shares / counts)[LONG_TAIL]
    sampler = torch.utils.data.WeightedRandomSampler(
        weights.tolist(), 3_000, generator=torch.Generator().manual_seed(0)
    )
    theirs = np.bincount(np.array(LONG_TAIL)[list(sampler)], minlength=4) / 3_000
    ours = np.bincount(np.array(LONG_TAIL)[np.concatenate(epochs)], minlength=4) / 3_000
    assert abs(ours - shares).max() < 0.004
    assert abs(theirs - ours).max() < 0.04
    # no picture is left out for good, and none comes at a fixed place
    assert np.bincount(np.concatenate(epochs), minlength=100).min() > 0
    assert len({order[0] for order in epochs}) > 5


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    for balance in ("none", "resample", "sqrt-resample"):
        recipe = made_recipe(balance=balance)
        first = epoch_order(LONG_TAIL, recipe, 0)
        assert epoch_order(LONG_TAIL, recipe, 0) == first
        assert epoch_order(LONG_TAIL, recipe, 1) != first
        assert epoch_order(LONG_TAIL, made_recipe(balance=balance, seed=1), 0) != first


def test_equal_classes_are_all_seen_once_with_resampling() -> None:
    labels = [0, 1, 2, 3] * 7
    for balance in ("resample", "sqrt-resample"):
        assert sorted(epoch_order(labels, made_recipe(balance=balance), 2)) == list(range(28))


def test_a_repeated_picture_is_seen_in_another_view(root: Path, pictures: list[Picture]) -> None:
    assert numbered([4, 7, 4, 4], 3) == [(3, 4), (3, 7), (3, 4, 1), (3, 4, 2)]
    training = TrainingViews(pictures, source(root), RECIPE)
    seen = [training[key][0] for key in numbered([4, 4, 4], 0)]
    assert len({view.tobytes() for view in seen}) == 3
    assert np.array_equal(seen[0], training[0, 4][0])


@few_cores
def test_resampled_batches_go_on_at_a_step_and_do_not_depend_on_workers(
    root: Path, pictures: list[Picture]
) -> None:
    two = [p._replace(label=int(i == 0)) for i, p in enumerate(pictures)]
    recipe = made_recipe(batch_size=4, epochs=2, image_size=16, balance="resample")
    stream = list(training_batches(two, source(root), recipe, 0))
    assert [len(labels) for _, labels in stream] == [4] * 6  # as many steps as without resampling
    assert 4 < sum(labels.sum().item() for _, labels in stream) <= 14  # without it, 2 or 3
    assert same(list(training_batches(two, source(root), recipe, 3)), stream[3:])
    assert same(list(training_batches(two, source(root, workers=2), recipe, 0)), stream)


# --- one picture


def views(picture: Image.Image, count: int = 30, **values: Any) -> Iterator[np.ndarray]:
    """Views of a picture under different keys; `pre`: another preprocessing than PRE."""
    pre, recipe = values.pop("pre", PRE), made_recipe(**values)
    for index in range(count):
        seed_everything(0, "picture", 0, index)
        yield augment(picture, recipe, pre)


def test_without_crop_and_flip_the_view_is_the_one_of_deployment() -> None:
    for pre in (
        PRE,
        Preprocessing(size=16),
        Preprocessing(size=16, crop_mode="border", crop_pct=1.0),
    ):
        plain = resize_crop(photo(50, 30), pre)
        for view in views(photo(50, 30), 3, crop_area=1.0, flip=0.0, pre=pre):
            assert np.array_equal(view, plain)
        for view in views(photo(50, 30), 3, crop_area=1.0, flip=1.0, pre=pre):
            assert np.array_equal(view, plain[:, ::-1])


def test_flip_is_a_probability() -> None:
    plain = resize_crop(photo(50, 30), PRE)
    flipped = sum(
        not np.array_equal(view, plain)
        for view in views(photo(50, 30), 200, crop_area=1.0, flip=0.25)
    )
    assert 25 < flipped < 75


def test_flip_mirrors_the_crop() -> None:
    for straight, mirrored in zip(views(photo(), flip=0.0), views(photo(), flip=1.0), strict=True):
        assert np.array_equal(straight, mirrored[:, ::-1])


@pytest.mark.parametrize(
    ("fit", "size", "relative_to"), [("squash", (128, 64), 2.0), ("crop", (96, 96), 1.0)]
)
def test_crops_cover_the_area_and_keep_the_aspect_ratio(
    fit: str, size: tuple[int, int], relative_to: float
) -> None:
    """`photo` is red by its distance from the left, green from the top: a view tells where its box
    was."""
    pre = Preprocessing(size=32, crop_mode="squash", crop_pct=1.0)
    areas = []
    for view in views(photo(*size), 60, fit=fit, crop_area=0.3, flip=0.0, pre=pre):
        assert view.shape == (32, 32, 3)
        assert view.dtype == np.uint8
        # between the centres of the first and the last of 32 pixels lie 31/32 of the box
        width, height = ((np.ptp(view[..., channel]) / 255 * 32 / 31) for channel in (0, 1))
        areas.append(width * height)
        ratio = width * size[0] / (height * size[1]) / relative_to
        assert 0.75 * 0.94 < ratio < 4 / 3 * 1.06
    assert 0.27 < min(areas) < 0.5
    assert 0.8 < max(areas) < 1.06


@pytest.mark.parametrize("crop_ratio", [1.0, 2.0])
def test_how_far_crops_change_the_shape(crop_ratio: float) -> None:
    pre = Preprocessing(size=32, crop_mode="squash", crop_pct=1.0)
    ratios = []
    for view in views(photo(64, 64), 60, crop_area=0.3, crop_ratio=crop_ratio, flip=0.0, pre=pre):
        width, height = (np.ptp(view[..., channel]) for channel in (0, 1))
        ratios.append(width / height)
    assert 0.94 / crop_ratio < min(ratios) < 1.2 / crop_ratio
    assert crop_ratio / 1.2 < max(ratios) < 1.06 * crop_ratio


def bands() -> Image.Image:
    """64 x 32: red at the left end, blue at the right, an eighth of the width each; green
    between."""
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:, :8, 0] = pixels[:, 8:56, 1] = pixels[:, 56:, 2] = 255
    return Image.fromarray(pixels)


def test_squash_shows_both_ends_of_a_wide_picture() -> None:
    for view in views(bands(), fit="squash", crop_area=0.98, flip=0.0):
        assert (view[:, 0].argmax(-1) == 0).all()
        assert (view[:, -1].argmax(-1) == 2).all()
        assert (view[:, 4:12].argmax(-1) == 1).all()


def test_crop_shows_the_middle_of_a_wide_picture() -> None:
    for view in views(bands(), fit="crop", crop_area=0.98, flip=0.0):
        assert (view.argmax(-1) == 1).all()


def test_pad_shows_both_ends_and_borders_of_the_mean_colour() -> None:
    pre = Preprocessing(size=16, crop_mode="border", crop_pct=1.0)
    mean = np.round(255 * np.array(pre.mean))
    for view in views(bands(), fit="pad", crop_area=0.98, flip=0.0, pre=pre):
        assert (abs(view[[0, 1, 14, 15]].astype(int) - mean) <= 1).all()
        assert (view[8, [0, 8, 15]].argmax(-1) == [0, 1, 2]).all()


def test_a_view_depends_on_seed_epoch_and_index_only(root: Path, pictures: list[Picture]) -> None:
    training = TrainingViews(pictures, source(root), RECIPE)
    before = {key: training[key][0] for key in ((0, 1), (1, 1), (0, 2))}
    torch.rand(17)
    training[2, 5]
    assert np.array_equal(training[0, 1][0], before[0, 1])
    assert not np.array_equal(before[0, 1], before[1, 1])
    other_seed = TrainingViews(
        pictures, source(root), made_recipe(batch_size=4, image_size=16, seed=1)
    )
    assert not np.array_equal(other_seed[0, 1][0], before[0, 1])


# --- one batch


def test_normalise_equals_deployment_bit_for_bit_in_channels_last_memory() -> None:
    pre = Preprocessing(
        size=16, mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711)
    )
    batch = torch.randint(
        0, 256, (5, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    x_BCHW = normalise(batch, pre)
    assert x_BCHW.dtype == torch.float32
    assert x_BCHW.shape == (5, 3, 16, 16)
    assert x_BCHW.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(
        x_BCHW.numpy(), np.stack([preprocess.normalise(image, pre) for image in batch.numpy()])
    )


def test_erasing_by_probability() -> None:
    x_BCHW = torch.zeros(400, 3, 8, 8)
    assert torch.equal(erase(x_BCHW, 0.0), torch.zeros(400, 3, 8, 8))
    seed_everything(0, "step", 0)
    changed = erase(x_BCHW.clone(), 0.25).flatten(1).any(1).sum().item()
    assert 60 < changed < 140
    seed_everything(0, "step", 0)
    assert erase(x_BCHW.clone(), 1.0).flatten(1).any(1).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_erasing_is_in_place_and_repeats_with_the_seed(dtype: torch.dtype) -> None:
    plain = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    results = []
    for step in (3, 3, 4):
        x_BCHW = plain.clone(memory_format=torch.channels_last)
        seed_everything(0, "step", step)
        erased = erase(x_BCHW, 0.8)
        assert erased.data_ptr() == x_BCHW.data_ptr()
        assert erased.dtype == dtype
        assert erased.is_contiguous(memory_format=torch.channels_last)
        results.append(erased)
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    share = (results[0] != plain).any(1).float().mean().item()
    assert 0.01 < share < 1 / 3


# --- the optimiser's groups


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("architecture", ["test_resnet", "test_vit"])
def test_biases_and_norms_are_not_decayed_and_everything_is_trained(
    architecture: str, name: str
) -> None:
    model = timm.create_model(architecture, num_classes=3)
    made = optimizer(model, made_recipe(optimizer=name, weight_decay=0.07, lr=0.02))
    decay = {id(p): group["weight_decay"] for group in made.param_groups for p in group["params"]}
    assert (
        sum(len(group["params"]) for group in made.param_groups)
        == len(decay)
        == len(list(model.parameters()))
    )
    for parameter_name, p in model.named_parameters():
        plain = p.ndim <= 1 or parameter_name in ("pos_embed", "cls_token", "reg_token")
        assert decay[id(p)] == (0.0 if plain else 0.07), parameter_name
    assert {group["lr"] for group in made.param_groups} == {0.02}
    assert type(made).__name__.lower() == name
