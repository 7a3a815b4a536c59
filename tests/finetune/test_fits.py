"""What is fitted on calibration pictures, on answers whose right values are known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.evaluation.fits import (
    Measured,
    choose_views,
    fit_sets,
    fit_temperature,
    loss_of,
    losses,
    measure,
    views_table,
)
from zoo.contract.decision import Sets, average, in_set, softmax, temper
from zoo.contract.rejection import threshold as threshold_of


def drawn(probabilities_NC: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A label for each row, drawn from its probabilities."""
    return (probabilities_NC.cumsum(1) < random.random((len(probabilities_NC), 1))).sum(1)


# --- temperature


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("temperature", "classes"), [(3.0, 9), (0.5, 9), (3.0, 100), (0.5, 100)])
def test_a_planted_temperature_is_found(temperature: float, classes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    z_NC = 3 * random.standard_normal((2000, classes))
    labels, said = drawn(softmax(z_NC), random), softmax(temperature * z_NC)
    found = fit_temperature(said, labels)
    assert found == pytest.approx(temperature, rel=0.05)
    assert loss_of(said, labels, found) < loss_of(said, labels, 1.0)
    assert loss_of(said, labels, found) == pytest.approx(
        loss_of(softmax(z_NC), labels, 1.0), abs=0.003
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_planted_temperature_of_averaged_views_is_found(seed: int) -> None:
    random = np.random.default_rng(seed)
    z_NC = 3 * random.standard_normal((2000, 9))
    said = average(3 * (z_NC[:, None] + 0.5 * random.standard_normal((2000, 5, 9))))
    assert fit_temperature(said, drawn(temper(said, 3.0), random)) == pytest.approx(3.0, rel=0.05)


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_no_temperature_near_the_fitted_one_is_better(scale: float) -> None:
    random = np.random.default_rng(3)
    said = softmax(scale * random.standard_normal((1000, 6)))
    labels = np.where(random.random(1000) < 0.6, said.argmax(1), random.integers(0, 6, 1000))
    found = fit_temperature(said, labels)
    best = min(loss_of(said, labels, t) for t in found * np.geomspace(0.2, 5, 200))
    assert loss_of(said, labels, found) == pytest.approx(best, abs=1e-3)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    pictures=st.integers(1, 12),
    classes=st.integers(2, 6),
    scale=st.sampled_from([0.0, 0.01, 1.0, 30.0, 2000.0]),
    answers=st.sampled_from(["any", "right", "wrong"]),
)
def test_any_answers_get_a_temperature_that_is_not_worse_and_keeps_the_order(
    seed: int, pictures: int, classes: int, scale: float, answers: str
) -> None:
    random = np.random.default_rng(seed)
    said = softmax(scale * random.standard_normal((pictures, classes)))
    labels = {
        "any": random.integers(0, classes, pictures),
        "right": said.argmax(1),
        "wrong": said.argmin(1),
    }[answers]
    found = fit_temperature(said, labels)
    assert math.isfinite(found)
    assert found > 0
    assert loss_of(said, labels, found) <= loss_of(said, labels, 1.0)
    tempered = temper(said, found)
    assert np.isfinite(tempered).all()
    assert np.array_equal(tempered.argmax(1), said.argmax(1))
    if answers == "wrong":
        assert found >= 1  # less sure at most


def test_a_few_pictures_fit_no_temperature() -> None:
    said, labels = softmax(np.random.default_rng(0).standard_normal((30, 3)) * 9), np.arange(30) % 3
    assert fit_temperature(said[:29], labels[:29]) == 1
    assert fit_temperature(said, labels) > 2


@pytest.mark.parametrize("pictures", [30, 40, 1000])
@pytest.mark.parametrize("classes", [2, 10])
def test_right_answers_alone_leave_room_for_a_wrong_one(pictures: int, classes: int) -> None:
    """With Platt's target and two classes, the derivative is zero where the mean of 1 - confidence,
    weighted by the distance of the logits, is 1 / (N + 2); wider ones are surer, so the plain mean
    is at least that. With more classes their rest counts a little: half of it is allowed here."""
    random = np.random.default_rng(pictures)
    said = softmax(
        random.uniform(0.1, 0.6, (pictures, classes))
        + np.eye(classes)[np.zeros(pictures, int)] * 0.6
    )
    right = said.argmax(1)
    found = fit_temperature(said, right)
    assert 0 < found < 1  # surer than before, as all were right
    doubt = 1 - temper(said, found).max(1).mean()
    assert doubt >= (0.999 if classes == 2 else 0.5) / (pictures + 2)
    assert doubt < 0.5
    if pictures > 1:  # more pictures prove more
        assert found < fit_temperature(said[:1], right[:1])


def test_right_answers_that_are_surer_than_they_prove_stay_as_they_are() -> None:
    said = np.full((10, 4), 1e-4 / 3)
    said[:, 2] = 1 - 1e-4
    assert fit_temperature(said, np.full(10, 2)) == 1.0


def test_losses_equal_the_definition_and_stay_finite() -> None:
    said = np.array([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5], [1.0, 0.0, 0.0]])
    labels = np.array([0, 2, 1])
    squared = [0.49 / 0.54, 0.25 / 0.375]  # temperature 1/2: p^2, scaled to 1
    assert losses(said, labels, 1.0)[:2] == pytest.approx([-math.log(0.7), math.log(2)])
    assert losses(said, labels, 0.5)[:2] == pytest.approx([-math.log(p) for p in squared])
    # of the smallest normal number
    assert losses(said, labels, 1.0)[2] == pytest.approx(708.4, abs=0.1)
    assert np.isfinite(losses(said, labels, 1e-3)).all()
    assert loss_of(said[:2], labels[:2], 1.0) == pytest.approx((math.log(2) - math.log(0.7)) / 2)


# --- views


def test_measure_judges_views_at_their_own_temperature() -> None:
    random = np.random.default_rng(0)
    z_NC = 2 * random.standard_normal((400, 5))
    labels = drawn(softmax(z_NC), random)
    calm, sure = measure(softmax(z_NC), labels), measure(softmax(4 * z_NC), labels)
    assert np.array_equal(calm.predicted, z_NC.argmax(1))
    # sharper alone gains nothing
    assert np.allclose(sure.label_probability, calm.label_probability, rtol=1e-3)


def made(right: list[int], label_probability: list[float]) -> Measured:
    """Answers to pictures of label 0: right (1) or wrong (0)."""
    return Measured(1 - np.array(right), np.array(label_probability))


def test_views_are_compared_with_none_on_the_same_pictures() -> None:
    none, flip = made([1, 0, 0, 1], [0.8, 0.4, 0.2, 0.5]), made([1, 1, 1, 0], [0.8, 0.8, 0.4, 0.25])
    one, other = views_table({"none": none, "flip": flip}, np.zeros(4, int))
    assert one == {
        "views": "none",
        "passes": 1,
        "pictures": 4,
        "top1": 0.5,
        "loss": pytest.approx(-math.log(0.8 * 0.4 * 0.2 * 0.5) / 4),
        "gain": 0.0,
        "gain_error": 0.0,
        "only_it_right": 0,
        "only_none_right": 0,
    }
    gains = [0, math.log(2), math.log(2), -math.log(2)]
    mean = sum(gains) / 4
    error = math.sqrt(sum((g - mean) ** 2 for g in gains) / 3 / 4)
    assert other == {
        "views": "flip",
        "passes": 2,
        "pictures": 4,
        "top1": 0.75,
        "loss": pytest.approx(one["loss"] - mean),
        "gain": pytest.approx(mean),
        "gain_error": pytest.approx(error),
        "only_it_right": 2,
        "only_none_right": 1,
    }


GAINS = np.linspace(0.05, 0.15, 100)  # mean 0.1, standard error 0.003


def chosen(**settings: tuple[np.ndarray, list[int]]) -> tuple[str, str]:
    """The choice among settings, each given as gain in loss and right answers of pictures, against
    none."""
    pictures = len(next(iter(settings.values()))[0])
    none = made([1, 0] * (pictures // 2) + [0] * (pictures % 2), [0.5] * pictures)
    measured = {
        name: made(right, (0.5 * np.exp(gain)).tolist()) for name, (gain, right) in settings.items()
    }
    return choose_views(views_table({"none": none} | measured, np.zeros(pictures, int)))


SAME, MORE, FEWER = [1, 0] * 50, [1, 0] * 49 + [1, 1], [1, 0] * 49 + [0, 0]


def test_views_are_chosen_if_the_loss_falls_and_no_right_answer_is_lost() -> None:
    views, why = chosen(flip=(GAINS, MORE))
    assert views == "flip"
    assert why == "measured: loss lower by 0.1000 ± 0.0029, 1 more right and 0 fewer"
    assert chosen(flip=(GAINS, SAME))[0] == "flip"
    assert chosen(flip=(GAINS, SAME[::-1]))[0] == "flip"  # as many gained as lost


@pytest.mark.parametrize(
    ("gains", "right"),
    [(GAINS, FEWER), (-GAINS, MORE), (np.zeros(100), SAME), (np.tile([0.11, -0.1], 50), MORE)],
)
def test_views_that_lose_answers_or_gain_no_more_than_noise_are_not_chosen(
    gains: np.ndarray, right: list[int]
) -> None:
    assert chosen(flip=(gains, right)) == (
        "none",
        "measured: no views lower the loss by more than 2 standard errors without losing right "
        "answers",
    )


def test_of_several_that_gain_the_cheapest_near_the_largest_gain_is_chosen() -> None:
    """The standard error is 0.0029, that of twice the gains 0.0059; flip has 2 passes, multiscale
    3, five 5."""
    assert (
        chosen(flip=(GAINS, SAME), five=(2 * GAINS, SAME), multiscale=(GAINS / 2, MORE))[0]
        == "five"
    )
    assert chosen(flip=(GAINS, SAME), five=(2 * GAINS, FEWER))[0] == "flip"
    assert chosen(flip=(GAINS, SAME), five=(GAINS + 0.0028, SAME))[0] == "flip"
    assert chosen(flip=(GAINS, SAME), five=(GAINS + 0.0031, SAME))[0] == "five"
    assert (
        chosen(flip=(GAINS, FEWER), multiscale=(GAINS, SAME), five=(GAINS + 0.0028, SAME))[0]
        == "multiscale"
    )
    assert chosen(
        flip=(GAINS - 0.0028, SAME), multiscale=(GAINS - 0.001, SAME), five=(GAINS, SAME)
    )[1] == ("measured: loss lower by 0.0972 ± 0.0029, 0 more right and 0 fewer")


def test_the_gain_must_exceed_two_standard_errors() -> None:
    row = {
        "views": "flip",
        "passes": 2,
        "pictures": 30,
        "gain": 0.2,
        "gain_error": 0.1,
        "only_it_right": 0,
        "only_none_right": 0,
    }
    assert choose_views([row])[0] == "none"
    assert choose_views([row | {"gain": 0.201}])[0] == "flip"


# --- prediction sets


def test_mean_coverage_is_what_was_asked_for() -> None:
    """100 splits of 2000 answers into 400 for calibration and the rest; coverage is between 1 -
    alpha and 1 - alpha + 1 / (n + 1) on average (Vovk, Gammerman and Shafer, 2005)."""
    random = np.random.default_rng(0)
    z_NC = 3.5 * random.standard_normal((2000, 10))
    said, labels = softmax(1.5 * z_NC), drawn(softmax(z_NC), random)
    assert 0.6 < (said.argmax(1) == labels).mean() < 0.8
    coverages = []
    for _ in range(100):
        fitted, held_out = np.split(random.permutation(2000), [400])
        sets, warning = fit_sets(said[fitted, labels[fitted]], 0.9)
        assert warning is None
        inside = in_set(said[held_out], sets)
        assert inside.any(1).all()
        coverages.append(inside[np.arange(1600), labels[held_out]].mean())
    assert 0.89 < np.mean(coverages) < 0.92
    assert np.std(coverages) < 0.03


def test_sets_are_never_empty_and_a_very_good_model_covers_more_than_asked() -> None:
    """Where the top answer alone is right more often than asked for, each set is that class:
    coverage is top-1."""
    random = np.random.default_rng(0)
    said = softmax(8 * np.eye(5)[random.integers(0, 5, 1000)] + random.standard_normal((1000, 5)))
    labels = np.where(random.random(1000) < 0.97, said.argmax(1), said.argmin(1))
    sets, _ = fit_sets(said[np.arange(500), labels[:500]], 0.9)
    inside = in_set(said[500:], sets)
    assert (inside.sum(1) == 1).all()
    covered = inside[np.arange(500), labels[500:]].mean()
    assert covered == (said.argmax(1) == labels)[500:].mean()
    assert covered > 0.94


@pytest.mark.parametrize(
    ("coverage", "least"),
    [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99), (0.9999, 9999), (2 / 3, 2), (0.85, 6)],
)
def test_too_few_pictures_give_full_sets_and_a_warning(coverage: float, least: int) -> None:
    label_probability = np.linspace(0.2, 0.9, least)
    sets, warning = fit_sets(label_probability, coverage)
    # just enough: the least probable of all
    assert sets == Sets(coverage, pytest.approx(0.2, abs=1e-6))
    assert sets.least_probability < 0.2
    assert warning is None
    sets, warning = fit_sets(label_probability[1:], coverage)
    assert sets == Sets(coverage, 0.0)
    assert in_set(np.array([[0.0, 0.3, 0.7]]), sets).all()
    assert warning == (
        f"{least - 1} calibration pictures are too few for prediction sets of {coverage:g} "
        f"coverage (at least {least}): each set holds every class"
    )


@pytest.mark.parametrize(
    ("pictures", "coverage", "place"),
    [(9, 0.9, 9), (18, 0.9, 18), (19, 0.9, 18), (99, 0.9, 90), (100, 0.9, 91), (10, 0.5, 6)],
)
def test_the_least_probability_is_the_one_at_rank_n_plus_1_times_coverage(
    pictures: int, coverage: float, place: int
) -> None:
    label_probability = np.random.default_rng(0).permutation(
        np.arange(1, pictures + 1) / (pictures + 1)
    )
    sets, _ = fit_sets(label_probability, coverage)
    assert (label_probability >= sets.least_probability).sum() == place


# --- unknown


@pytest.mark.parametrize("share", [0.05, 0.1, 0.01])
def test_as_many_are_rejected_as_the_share_allows(share: float) -> None:
    for pictures in (1, 2, 19, 20, 21, 39, 40, 60, 99, 100, 137, 200, 999, 1000):
        scores = np.random.default_rng(pictures).permutation(pictures).astype(np.float32) / 7
        rejected = int((scores > threshold_of(scores, share)).sum())
        assert rejected == math.floor(share * pictures + 1e-9), pictures


def test_of_equal_scores_no_more_than_the_share_are_rejected() -> None:
    assert threshold_of(np.full(50, 0.25, np.float32), 0.05) == 0.25  # equal is known
    scores = np.repeat(np.arange(10), 10).astype(np.float32)
    assert threshold_of(scores, 0.05) == 9.0
    assert threshold_of(scores, 0.1) == 8.5


def test_rounding_of_scores_does_not_change_who_is_rejected() -> None:
    for seed in range(20):
        scores = (0.4 * np.random.default_rng(seed).random(300)).astype(np.float32)
        threshold = threshold_of(scores, 0.05)
        for rounded in (scores.round(6), scores + np.float32(2e-7), scores - np.float32(2e-7)):
            assert np.array_equal(rounded > threshold, scores > threshold)
    few = scores[:12]
    assert not (few + np.float32(2e-7) > threshold_of(few, 0.05)).any()
