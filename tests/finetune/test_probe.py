"""The linear probe against scikit-learn, which minimises the same sum: C = 1 / (penalty *
pictures)."""

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from finetune.augment.picture import normalise
from finetune.data.dataset import Picture
from finetune.data.loader import Batch, PictureSource, evaluation_batches
from finetune.data.scanning import scan
from finetune.evaluation.passes import extract, sample
from finetune.sources.class_folders import read_folders
from finetune.train.probe import FOLDS, PENALTIES, faster_precision, fit, fit_logistic, folds
from tests.bad_pictures import photo
from zoo.host.errors import UserError
from zoo.network.forward import features
from zoo.picture.preprocess import Preprocessing

PRE = Preprocessing(size=32, crop_mode="squash", crop_pct=1.0)


def made_features(
    pictures: int, classes: int, spread: float, dim: int = 8
) -> tuple[torch.Tensor, torch.Tensor]:
    """Features [N, dim] of clouds of the given spread around one point per class, and labels
    [N]."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(pictures) % classes
    centres = torch.randn(classes, dim, generator=generator)
    return centres[labels] + spread * torch.randn(pictures, dim, generator=generator), labels


def sklearn_fit(x_ND: np.ndarray, labels: np.ndarray, penalty: float) -> LogisticRegression:
    return LogisticRegression(C=1 / (penalty * len(labels)), tol=1e-8, max_iter=10_000).fit(
        x_ND, labels
    )


def scaled(x_ND: torch.Tensor) -> np.ndarray:
    """Centred, and divided by one number: the root mean square of the centred features."""
    centred = x_ND.double().numpy() - x_ND.double().numpy().mean(0)
    return centred / np.sqrt((centred**2).mean())


@pytest.mark.parametrize("penalty", [1.0, 0.03, 0.001])
def test_fit_logistic_is_the_same_as_sklearn(penalty: float) -> None:
    x_ND, labels = made_features(150, 3, 1.5)
    weight, bias = fit_logistic(x_ND, labels, 3, penalty, None)
    oracle = sklearn_fit(x_ND.double().numpy(), labels.numpy(), penalty)
    assert np.abs(weight.numpy() - oracle.coef_).max() < 2e-3 * np.abs(oracle.coef_).max()
    probabilities = (x_ND @ weight.T + bias).softmax(1).numpy()
    assert np.abs(probabilities - oracle.predict_proba(x_ND.numpy())).max() < 1e-3


def test_the_start_is_left_alone_and_does_not_change_the_result() -> None:
    x_ND, labels = made_features(90, 3, 1.0)
    start = fit_logistic(x_ND, labels, 3, 1.0, None)
    kept = [t.clone() for t in start]
    warm, cold = (
        fit_logistic(x_ND, labels, 3, 0.01, start),
        fit_logistic(x_ND, labels, 3, 0.01, None),
    )
    assert torch.equal(start[0], kept[0])
    assert torch.equal(start[1], kept[1])
    assert torch.allclose(
        (x_ND @ warm[0].T + warm[1]).softmax(1), (x_ND @ cold[0].T + cold[1]).softmax(1), atol=1e-3
    )


@pytest.mark.parametrize("spread", [0.1, 1.5, 6.0])
def test_cross_validation_picks_the_penalty_that_sklearn_would_pick(spread: float) -> None:
    x_ND, labels = made_features(120, 4, spread)
    z_ND, y = scaled(x_ND), labels.numpy()
    losses = []
    for penalty in PENALTIES:
        held_out_losses = []
        for train, held_out in ((a.numpy(), b.numpy()) for a, b in folds(labels)):
            model = sklearn_fit(z_ND[train], y[train], penalty)
            held_out_losses.append(log_loss(y[held_out], model.predict_proba(z_ND[held_out])))
        losses.append(sum(held_out_losses))
    assert fit(x_ND, labels, 4).penalty == PENALTIES[int(np.argmin(losses))]


def test_penalty_is_weak_for_clear_features_and_strongest_for_noise() -> None:
    clear, labels = made_features(120, 3, 0.05)
    assert fit(clear, labels, 3).penalty == min(PENALTIES)
    noise = torch.randn(120, 30, generator=torch.Generator().manual_seed(0))
    assert fit(noise, labels, 3).penalty == max(PENALTIES)


def test_the_result_applies_to_raw_features() -> None:
    x_ND, labels = made_features(120, 3, 1.5)
    raw_ND = 40 * x_ND + 300
    fitted = fit(raw_ND, labels, 3)
    oracle = sklearn_fit(scaled(raw_ND), labels.numpy(), fitted.penalty)
    probabilities = (raw_ND @ fitted.weight.T + fitted.bias).softmax(1).numpy()
    assert np.abs(probabilities - oracle.predict_proba(scaled(raw_ND))).max() < 5e-3
    assert fitted.weight.shape == (3, 8)
    assert fitted.bias.shape == (3,)
    assert (probabilities.argmax(1) == labels.numpy()).mean() > 0.6


@pytest.mark.parametrize("counts", [[7, 5, 9, 4], [1, 1], [1, 1, 1, 1], [2, 1], [1, 30, 2]])
def test_folds_are_stratified_disjoint_and_cover_all(counts: list[int]) -> None:
    labels = torch.cat([torch.full((n,), c) for c, n in enumerate(counts)])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    made = folds(labels)
    assert 2 <= len(made) <= FOLDS
    assert (torch.stack([held_out for _, held_out in made]).sum(0) == 1).all()
    for train, held_out in made:
        assert torch.equal(train, ~held_out)
        assert train.any()
        assert held_out.any()
    for c in range(len(counts)):
        held = [int((labels[held_out] == c).sum()) for _, held_out in made]
        assert max(held) - min(held) <= 1


def pictures_of(counts: list[int]) -> list[Picture]:
    """So many pictures of each class, in an order that is not the one of their sha256."""
    labels = [label for label, n in enumerate(counts) for _ in range(n)]
    return [
        Picture(f"{i}.png", label, "train", hashlib.sha256(bytes([i])).hexdigest(), 8, 8)
        for i, label in enumerate(labels)
    ]


@pytest.mark.parametrize(
    ("most", "taken"),
    [
        (0, [0, 0, 0]),
        (3, [1, 1, 1]),
        (9, [3, 3, 3]),
        (15, [6, 3, 6]),
        (25, [15, 3, 7]),
        (40, [30, 3, 7]),
        (41, [30, 3, 7]),
    ],
)
def test_a_sample_takes_the_classes_in_turn(most: int, taken: list[int]) -> None:
    found = sample(pictures_of([30, 3, 7]), most)
    assert [sum(p.label == label for p in found) for label in range(3)] == taken
    assert len(set(found)) == len(found)


def test_a_sample_does_not_depend_on_the_order_and_grows_by_appending() -> None:
    pictures = pictures_of([9, 5, 7])
    found = sample(pictures, 13)
    assert sample(pictures[::-1], 13) == found
    assert sample(pictures, 21)[:13] == found
    for label in range(3):
        own = [p.sha256 for p in found if p.label == label]
        assert own == sorted(p.sha256 for p in pictures if p.label == label)[: len(own)]


def test_one_picture_of_each_class_is_enough() -> None:
    fitted = fit(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([0, 1]), 2)
    assert torch.isfinite(fitted.weight).all()
    assert torch.equal(
        (torch.eye(2).flip(1) @ fitted.weight.T + fitted.bias).argmax(1), torch.tensor([0, 1])
    )


@pytest.mark.parametrize("value", [0.0, 0.37, -1e-30, 1e4])
@pytest.mark.parametrize("noise", [0.0, 1e-7])
def test_features_that_are_all_equal_are_an_error_for_people(value: float, noise: float) -> None:
    x_ND = value * (1 + noise * torch.randn(12, 8, generator=torch.Generator().manual_seed(0)))
    with pytest.raises(
        UserError, match=r"look the same .*expected .*white drawings.* another ground"
    ):
        fit(x_ND, torch.tensor([0] * 8 + [1] * 4), 2)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_features_that_are_not_finite_are_an_error_for_people(value: float) -> None:
    x_ND, labels = made_features(12, 2, 1.0)
    x_ND[3, 2] = value
    with pytest.raises(UserError, match=r"features that are not finite.*--base.*--probe off"):
        fit(x_ND, labels, 2)


def test_features_that_differ_little_are_fitted() -> None:
    x_ND, labels = made_features(60, 2, 0.1)
    fitted = fit(100 + 0.02 * x_ND, labels, 2)
    assert torch.equal(((100 + 0.02 * x_ND) @ fitted.weight.T + fitted.bias).argmax(1), labels)


@pytest.fixture(scope="module")
def batches(tmp_path_factory: pytest.TempPathFactory) -> list[Batch]:
    """66 pictures in two batches, small and wide, dark and bright."""
    root = tmp_path_factory.mktemp("pictures")
    for i in range(66):
        path = root / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(exist_ok=True)
        photo(20 + i, 20 + 3 * (i % 7)).point(
            [int(v * (0.3 + i / 100)) for v in range(256)] * 3
        ).save(path)
    found = scan(read_folders(root)).pictures
    return list(evaluation_batches(found, PictureSource(root, PRE, 0, pin=False)))


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=3)


def test_extract_gives_the_features_in_evaluation_mode(
    model: torch.nn.Module, batches: list[Batch]
) -> None:
    model.train()
    statistics = {name: t.clone() for name, t in model.state_dict().items()}
    x_ND, labels = extract(model, iter(batches), PRE, total=66, precision="fp32")
    assert labels.tolist() == [0] * 33 + [1] * 33
    assert x_ND.dtype == torch.float32
    assert not x_ND.requires_grad
    assert all(torch.equal(t, statistics[name]) for name, t in model.state_dict().items())
    with torch.no_grad():
        expected = torch.cat(
            [features(model.eval(), normalise(images, PRE)) for images, _ in batches]
        )
    assert torch.equal(x_ND, expected)


def test_bf16_is_close_to_fp32(model: torch.nn.Module, batches: list[Batch]) -> None:
    fp32, bf16 = (
        extract(model, batches, PRE, total=66, precision=name)[0] for name in ("fp32", "bf16")
    )
    assert bf16.dtype == torch.float32
    distance = (fp32 - bf16).norm() / fp32.norm()
    assert 0 < distance < 0.03


def test_the_faster_precision_is_measured(
    model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert faster_precision(model, 32) in ("fp32", "bf16")
    for ticks, expected in (((4, 2), "bf16"), ((5, 4), "fp32"), ((1, 9), "fp32")):
        stamps = [stamp for fp32_or_bf16 in ticks * 3 for stamp in (0, fp32_or_bf16)]
        clock = iter(stamps)
        monkeypatch.setattr("finetune.train.probe.perf_counter", lambda clock=clock: next(clock))
        assert faster_precision(model, 32) == expected


def test_the_probe_of_a_folder_is_right_on_pictures_it_has_not_seen(
    tmp_path: Path, model: torch.nn.Module
) -> None:
    """Bright against dark, with random weights: features, fit and fold-back together."""
    generator = np.random.default_rng(0)
    for i in range(48):
        path = tmp_path / ("dark", "bright")[i % 2] / f"{i:02}.png"
        path.parent.mkdir(exist_ok=True)
        level = generator.uniform(0.7, 1.0) if i % 2 else generator.uniform(0.1, 0.4)
        photo(24 + i, 30).point([int(v * level) for v in range(256)] * 3).save(path)
    data = scan(read_folders(tmp_path))
    loaded = evaluation_batches(data.pictures, PictureSource(tmp_path, PRE, 0, pin=False))
    x_ND, labels = extract(model, loaded, PRE, total=48, precision="fp32")
    seen = torch.arange(48) % 3 != 0
    fitted = fit(x_ND[seen], labels[seen], 2)
    right = (x_ND[~seen] @ fitted.weight.T + fitted.bias).argmax(1) == labels[~seen]
    assert right.float().mean() >= 0.9
