"""One update: what accumulation, SAM, moving average, distillation and resizing change, against
their formulas."""

import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from finetune.data.dataset import Picture
from finetune.data.loader import Batch, PictureSource
from finetune.data.scanning import scan
from finetune.sources.class_folders import read_folders
from finetune.train import sam, step
from finetune.train.distill import Teacher, distillation
from tests.made_recipe import made_recipe
from zoo.picture.preprocess import Preprocessing

PLAIN: dict[str, Any] = {
    "erasing": 0.0,
    "image_size": 32,
    "batch_size": 8,
    "optimizer": "sgd",
    "lr": 0.1,
}
"""No randomness in the pictures, and steps along the gradient."""


@pytest.fixture(scope="module")
def pictures(digits: Path) -> list[Picture]:
    return scan(read_folders(digits)).of("train")


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(
        0, 256, (8, 32, 32, 3), generator=generator, dtype=torch.uint8
    ), torch.arange(8) % 5


def made_job(pictures: list[Picture], model: nn.Module | None = None, **values: Any) -> step.Job:
    """A job of timm's tiny ViT (no batch norm: its answers do not depend on the rest of the
    batch)."""
    if model is None:
        torch.manual_seed(0)
        model = timm.create_model("test_vit", num_classes=10, img_size=32)
    source = PictureSource(Path(), Preprocessing(size=32), workers=0, pin=False)
    return step.Job(
        model.train(), pictures, source, made_recipe(**PLAIN | values), Path(), lambda model: None
    )  # type: ignore[arg-type, return-value]


def stepped(job: step.Job, batch: Batch, steps: int = 1) -> tuple[dict[str, torch.Tensor], float]:
    """The weights after some updates of a copy of the job's model, and the last loss."""
    job = dataclasses.replace(job, model=copy.deepcopy(job.model))
    parts = step.prepare(job)
    for group in parts.optimizer.param_groups:
        group["lr"] = job.recipe.lr
    for number in range(steps):
        result = step.update(job, batch, parts, 0, number)
    return job.model.state_dict(), result[0].item()


def furthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max((one[name] - other[name]).abs().max().item() for name in one)


# ---------------------------------------------------------------- accumulation


@pytest.mark.parametrize(
    ("accumulate", "more"),
    [
        (2, {}),
        (8, {}),
        (3, {}),
        (3, {"mixup": 0.8}),
        (3, {"loss": "focal", "label_smoothing": 0.0}),
        (3, {"balance": "weights"}),
        (3, {"clip_norm": 0.1}),
        (3, {"sam_rho": 0.05}),
    ],
    ids=str,
)
def test_accumulated_batches_equal_the_large_one_in_float64(
    pictures: list[Picture],
    batch: Batch,
    accumulate: int,
    more: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    augment = step.augment_batch
    monkeypatch.setattr(
        step, "augment_batch", lambda x, *rest, **how: augment(x.double(), *rest, **how)
    )
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    job = made_job(pictures, **more)
    job.model.double()
    small = dataclasses.replace(job, recipe=dataclasses.replace(job.recipe, accumulate=accumulate))
    (whole, loss), (parts, loss_of_parts) = stepped(job, batch, 2), stepped(small, batch, 2)
    assert furthest(whole, job.model.state_dict()) > 1e-4
    assert furthest(whole, parts) < 1e-12
    assert loss_of_parts == pytest.approx(loss, rel=1e-12)


# ---------------------------------------------------------------- SAM


class Bowl(nn.Module):
    """Logits that are one weight per class, whatever the picture."""

    def __init__(self, weights: list[float]):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weights.expand(len(x), -1)


def test_sam_steps_along_the_gradient_of_the_point_above() -> None:
    """By hand: cross-entropy of logits w for class 0 has the gradient softmax(w) - (1, 0, 0)."""
    w, rho, lr = [0.3, -0.2, 0.5], 0.4, 0.1

    def gradient(at: list[float]) -> list[float]:
        total = sum(math.exp(value) for value in at)
        return [math.exp(value) / total - (index == 0) for index, value in enumerate(at)]

    g = gradient(w)
    norm = math.sqrt(sum(value * value for value in g))
    above = gradient([value + rho * slope / norm for value, slope in zip(w, g, strict=True)])
    expected = [value - lr * slope for value, slope in zip(w, above, strict=True)]
    model = Bowl(w)
    optimizer = torch.optim.SGD(model.parameters(), lr)
    images, labels = torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64)
    cross_entropy(model(images), labels).backward()
    with sam.climbed(model, rho):
        assert model.weights.grad is None
        cross_entropy(model(images), labels).backward()
    assert model.weights.tolist() == torch.tensor(w).tolist()
    optimizer.step()
    assert model.weights.tolist() == pytest.approx(expected, rel=1e-6)


def test_sam_counts_pictures_once_in_batch_norms_and_repeats_its_dropout(
    pictures: list[Picture], batch: Batch
) -> None:
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=10, drop_rate=0.5)
    plain, _ = stepped(made_job(pictures, model), batch)
    flat, _ = stepped(made_job(pictures, model, sam_rho=1e-6), batch)
    assert all(
        torch.equal(plain[name], flat[name])
        for name in plain
        if "running" in name or "tracked" in name
    )
    sharp, _ = stepped(made_job(pictures, model, sam_rho=0.1), batch)
    assert furthest(flat, sharp) > 1e-5
    assert all(m.track_running_stats for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    masks: list[torch.Tensor] = []
    model.global_pool.register_forward_hook(lambda *_: masks.append(torch.rand(3)))
    stepped(made_job(pictures, model, sam_rho=0.1), batch)
    assert torch.equal(*masks)


def test_sam_does_not_climb_along_gradients_that_overflowed() -> None:
    model = Bowl([1.0, 2.0])
    model.weights.grad = torch.tensor([math.inf, 1.0])
    with sam.climbed(model, 0.1):
        assert model.weights.tolist() == [1.0, 2.0]


def test_a_loss_scale_cancels_in_the_climb() -> None:
    seen = []
    for scale in (1.0, 2.0**16):
        model = Bowl([1.0, 2.0])
        model.weights.grad = scale * torch.tensor([3.0, -4.0])
        with sam.climbed(model, 0.5):
            seen.append(model.weights.tolist())
    assert seen[0] == seen[1] == pytest.approx([1.3, 1.6])


@pytest.mark.parametrize("amp", ["fp16", "bf16"])
def test_sam_works_with_reduced_precision_clipping_and_accumulation(
    pictures: list[Picture], batch: Batch, amp: str
) -> None:
    """fp16 has a loss scale: gradients are unscaled once, before they are clipped."""
    more = {"sam_rho": 0.05, "clip_norm": 0.1, "accumulate": 2}
    job = made_job(pictures, **more)
    full, loss = stepped(job, batch)
    reduced, loss_of_reduced = stepped(made_job(pictures, amp=amp, **more), batch)
    moved = furthest(full, job.model.state_dict())
    assert moved > 1e-4
    assert furthest(full, reduced) < 0.1 * moved
    assert loss_of_reduced == pytest.approx(loss, rel=0.01)


# ---------------------------------------------------------------- moving average


def test_the_moving_average_is_the_one_of_its_formula(
    pictures: list[Picture], batch: Batch
) -> None:
    job = made_job(pictures, ema=0.6)
    parts = step.prepare(job)
    name = "head.weight"
    average = job.model.state_dict()[name].clone()
    for number in range(6):
        step.update(job, batch, parts, 0, number)
        # timm's warm-up: 1 - (1 + step) ** (-2/3), nothing at the first step, at most the decay
        decay = min(0.6, 1 - (1 + number) ** (-2 / 3)) if number else 0.0
        average = decay * average + (1 - decay) * job.model.state_dict()[name]
    judged = parts.judged(job.model)
    assert judged is not job.model
    assert torch.allclose(judged.state_dict()[name], average, atol=1e-6)
    assert not torch.allclose(job.model.state_dict()[name], average, atol=1e-6)
    assert not judged.training


# ---------------------------------------------------------------- distillation


def test_distillation_is_hintons_formula() -> None:
    student, teacher = [[0.5, -1.0, 2.0]], [[1.5, 0.0, -0.5]]
    temperature, weight = 3.0, 0.7

    def softened(logits: list[float]) -> list[float]:
        exps = [math.exp(value / temperature) for value in logits]
        return [value / sum(exps) for value in exps]

    p, q = softened(teacher[0]), softened(student[0])
    divergence = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    recipe = made_recipe(distill_temperature=temperature, distill_weight=weight)
    loss = distillation(torch.tensor(1.25), torch.tensor(student), torch.tensor(teacher), recipe)
    assert loss.item() == pytest.approx(0.3 * 1.25 + 0.7 * 9.0 * divergence, rel=1e-6)


def test_a_teacher_sees_its_own_normalisation_and_size() -> None:
    seen: list[torch.Tensor] = []

    class Watching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return x.mean((2, 3))

    student = Preprocessing(size=32, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    own = Preprocessing(size=48, mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.5))
    grey = torch.rand(2, 3, 1, 1).expand(2, 3, 32, 32)

    def normalised(pre: Preprocessing) -> torch.Tensor:
        return (grey - torch.tensor(pre.mean)[:, None, None]) / torch.tensor(pre.std)[:, None, None]

    for own_size_only, side in ((False, 32), (True, 48)):
        logits = Teacher(Watching(), own, student, own_size_only).logits(normalised(student))
        assert seen[-1].shape[-1] == side
        assert torch.allclose(logits, normalised(own).mean((2, 3)), atol=1e-5)


def test_a_model_learns_its_teachers_answers(pictures: list[Picture], batch: Batch) -> None:
    job = made_job(pictures, distill_weight=1.0, distill_temperature=1.0)

    class Sure(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 9.0 * torch.eye(10)[torch.full((len(x),), 9)]

    pre = job.source.pre
    taught = dataclasses.replace(job, teacher=Teacher(Sure(), pre, pre, False))
    weights, _ = stepped(taught, batch, 10)
    job.model.load_state_dict(weights)
    x = step.normalise(batch[0], pre)
    assert job.model.eval()(x).argmax(1).tolist() == [9] * 8  # the labels are 0 to 4


# ---------------------------------------------------------------- progressive resizing, layer decay


def test_the_first_half_of_the_epochs_is_small(pictures: list[Picture], batch: Batch) -> None:
    recipe = made_recipe(image_size=64, start_size=32, epochs=5)
    assert [step.side_of(recipe, epoch) for epoch in range(5)] == [32, 32, 32, 64, 64]
    assert step.side_of(made_recipe(image_size=64), 0) == 64
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=10)
    sides: list[int] = []
    model.register_forward_pre_hook(lambda _, x: sides.append(x[0].shape[-1]))
    job = made_job(pictures, model, image_size=32, start_size=16, epochs=2)
    parts = step.prepare(job)
    for epoch in range(2):
        step.update(job, batch, parts, epoch, epoch)
    assert sides == [16, 32]


def test_hits_are_counted_also_of_mixed_pictures() -> None:
    logits = torch.tensor(
        [[9.0, 1, 2, 3, 4, 5], [0, 9, 8, 7, 6, 5], [9, 0, 1, 2, 3, 4], [9, 8, 7, 6, 5, 4]]
    )
    labels = torch.tensor([0, 5, 1, 3])
    expected = torch.tensor([0.5, 0.25, 0.75])
    assert torch.equal(step.loss_and_hits(torch.tensor(0.5), logits, labels), expected)
    mixed = 0.6 * torch.eye(6)[labels] + 0.4 * torch.eye(6)[0]
    assert torch.equal(step.loss_and_hits(torch.tensor(0.5), logits, mixed), expected)


# ---------------------------------------------------------------- torch.compile


def test_a_compiled_model_trains_the_same_weights(
    pictures: list[Picture], batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With torch's tracer alone: generating C++ takes half a minute (measured in
    tests/bench/tricks.py)."""
    compiled: list[nn.Module] = []

    def traced(model: nn.Module) -> Any:
        compiled.append(model)
        return compile_model(model, backend="eager")

    compile_model = torch.compile
    monkeypatch.setattr(torch, "compile", traced)
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=10)
    plain, _ = stepped(made_job(pictures, model, sam_rho=0.05), batch, 2)
    assert not compiled
    fast, _ = stepped(made_job(pictures, model, sam_rho=0.05, compile="on"), batch, 2)
    assert len(compiled) == 1
    assert list(plain) == list(fast)
    assert furthest(plain, fast) < 1e-6
