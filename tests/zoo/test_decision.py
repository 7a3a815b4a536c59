"""From outputs to answers: what decision.json may say, and the arithmetic against scikit-learn and
by hand."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from zoo.contract import decision, rundir
from zoo.contract.decision import (
    Answer,
    Decision,
    Early,
    Sets,
    Unknown,
    answer,
    average,
    in_set,
    knn_distance,
    softmax,
    temper,
    unit,
)
from zoo.host.errors import UserError

FULL = Decision(1.37, "flip", Unknown(10, 7.25, 0.123456789012345), Sets(0.9, 0.0625))
FILE = {
    "temperature": 2.0,
    "views": "five",
    "unknown": {"neighbours": 3, "shortest": 4.5, "threshold": 0.25},
    "sets": {"coverage": 0.9, "least_probability": 0.1},
}

# --- the file


@pytest.mark.parametrize(
    "made",
    [
        FULL,
        Decision(),
        Decision(unknown=Unknown(1, 1e-6, 0.0)),
        Decision(unknown=Unknown(1, 1.7, 0.1, Early(2, (0.5, 7.25, 1e-6)))),
        Decision(sets=Sets(0.5, 0.0)),
        Decision(5, "multiscale"),
    ],
)
def test_a_decision_comes_back_from_json_as_it_was(tmp_path: Path, made: Decision) -> None:
    rundir.write_json(
        tmp_path / rundir.DECISION,
        made.to_json() | {"fitted": {"pictures": 300, "views": {"why": "x"}}},
    )
    assert decision.read_decision(tmp_path) == made


def test_what_the_keys_mean() -> None:
    assert Decision.from_json(FILE) == Decision(2.0, "five", Unknown(3, 4.5, 0.25), Sets(0.9, 0.1))
    # a run before sets
    assert Decision.from_json({"temperature": 1, "views": "none", "unknown": None}) == Decision()
    assert set(Decision().to_json()) == set(FILE)


def changed(key: str, value: Any) -> dict[str, Any]:
    """FILE with another value at "a" or "a.b"; ... leaves the key out."""
    content = json.loads(json.dumps(FILE))
    *outer, last = key.split(".")
    part = content[outer[0]] if outer else content
    if value is ...:
        del part[last]
    else:
        part[last] = value
    return content


NO_NUMBERS: list[Any] = [..., None, "1", "x", [], True, math.nan, math.inf, -math.inf, 10**400]


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("temperature", [0, 0.0, -1, *NO_NUMBERS]),
        ("unknown", [..., {}, [], "x", 3]),
        ("sets", [{}, [], "x", 3]),
        ("unknown.neighbours", [0, -1, 2.5, *NO_NUMBERS]),
        ("unknown.threshold", NO_NUMBERS),
        ("unknown.shortest", [0, -1, *NO_NUMBERS]),
        ("sets.coverage", [0, 1, 1.5, -0.1, *NO_NUMBERS]),
        ("sets.least_probability", NO_NUMBERS),
        ("views", [...]),
    ],
)
def test_missing_and_wrong_values_are_refused_by_name_of_the_file(
    tmp_path: Path, key: str, values: list[Any]
) -> None:
    file = re.escape(str(tmp_path / rundir.DECISION))
    for value in values:
        (tmp_path / rundir.DECISION).write_text(json.dumps(changed(key, value)))
        expected = (
            rf"^{file}: expected temperature, views, unknown and sets.*"
            r"Run python -m finetune\.decide\.$"
        )
        # no number of JSON, so the reader refuses it
        if isinstance(value, int | float) and not -1e300 < value < 1e300:
            expected = rf"^{file} is not readable as JSON"
        with pytest.raises(UserError, match=rf"(?s){expected}"):
            decision.read_decision(tmp_path)


@pytest.mark.parametrize(
    "early",
    [
        {},
        [],
        3,
        "x",
        {"stage": 2},
        {"stage": -1, "shortest": [1, 1, 1]},
        {"stage": 2.5, "shortest": [1, 1, 1]},
        {"stage": 2, "shortest": [1, 1]},
        {"stage": 2, "shortest": [1, 0, 1]},
        {"stage": 2, "shortest": "abc"},
    ],
)
def test_a_stage_that_is_none_is_refused(early: Any) -> None:
    assert Decision.from_json(changed("unknown.early", None)).early is None
    with pytest.raises(UserError, match="expected temperature, views, unknown and sets"):
        Decision.from_json(changed("unknown.early", early))


@pytest.mark.parametrize("content", ["null", "[]", "[1, 2]", "3", '"none"', "{}"])
def test_a_file_that_holds_something_else_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / rundir.DECISION).write_text(content)
    with pytest.raises(
        UserError, match=r"decision\.json: expected temperature, views, unknown and sets"
    ):
        decision.read_decision(tmp_path)


@pytest.mark.parametrize("views", ["ten", "", "Flip", None, 3, ["flip"], {}])
def test_views_of_a_newer_program_are_refused(views: Any) -> None:
    with pytest.raises(
        UserError,
        match=r"^here: expected views of none, flip, five, multiscale, seen .*update this",
    ):
        Decision.from_json(changed("views", views), "here")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"decision\.json is missing"):
        decision.read_decision(tmp_path)


# --- probabilities


def made_logits(*shape: int, scale: float = 3.0) -> np.ndarray:
    return (scale * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)


def test_the_default_decision_is_the_plain_softmax() -> None:
    logits_NC = made_logits(20, 7)
    expected = np.exp(logits_NC.astype(float)) / np.exp(logits_NC.astype(float)).sum(
        1, keepdims=True
    )
    assert np.allclose(
        temper(average(logits_NC[:, None]), Decision().temperature), expected, rtol=1e-12
    )
    said = answer(expected[0], None, "abcdefg", Decision())
    assert said.label == "abcdefg"[logits_NC[0].argmax()]
    assert said.unknown_score is said.prediction_set is None


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0, 3.0, 100.0])
def test_for_one_view_temper_is_temperature_scaling_of_logits(temperature: float) -> None:
    logits_NC = made_logits(50, 9)
    assert np.allclose(
        temper(average(logits_NC[:, None]), temperature),
        softmax(logits_NC / temperature),
        rtol=1e-5,
    )


def test_temperature_1_changes_nothing_and_2_takes_square_roots() -> None:
    said = np.array([[0.64, 0.36, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    assert np.allclose(temper(said, 1.0), said, atol=1e-15)
    assert np.allclose(temper(said, 2.0), [[0.8 / 1.4, 0.6 / 1.4, 0.0], [1 / 3] * 3], atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    classes=st.integers(2, 30),
    scale=st.floats(0.01, 20),
    temperature=st.floats(0.05, 20),
)
def test_temper_keeps_the_order_and_the_sum(
    seed: int, classes: int, scale: float, temperature: float
) -> None:
    said = softmax(scale * np.random.default_rng(seed).standard_normal((4, classes)))
    tempered = temper(said, temperature)
    assert np.allclose(tempered.sum(1), 1)
    assert np.array_equal(tempered.argmax(1), said.argmax(1))
    for before, after in zip(said, tempered, strict=True):
        assert (np.diff(after[np.argsort(before)]) >= 0).all()


@pytest.mark.parametrize("temperature", [0.01, 1.0, 100.0])
def test_extreme_logits_give_numbers(temperature: float) -> None:
    logits_NVC = np.array(
        [
            [[1e4, -1e4, 0], [1e4, -1e4, 0]],
            [[1e4, -1e4, 0], [-1e4, 1e4, 0]],
            [[-1e4] * 3, [1e4] * 3],
        ],
        np.float32,
    )
    said = temper(average(logits_NVC), temperature)
    assert np.isfinite(said).all()
    assert np.allclose(said.sum(1), 1)
    assert said.argmax(1).tolist() == [0, 0, 0]
    assert said[1, :2] == pytest.approx([said[1, 0]] * 2)
    assert said[2] == pytest.approx([1 / 3] * 3)


def test_average_is_the_mean_of_the_views_probabilities() -> None:
    logits_NVC = np.log(
        np.array([[[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]], [[0.9, 0.05, 0.05], [0.3, 0.3, 0.4]]])
    )
    assert np.allclose(average(logits_NVC), [[0.3, 0.525, 0.175], [0.6, 0.175, 0.225]])
    assert average(logits_NVC.astype(np.float32)).dtype == np.float64


# --- the unknown score


@pytest.mark.parametrize("neighbours", [1, 10, 40])
def test_knn_distance_equals_sklearn(neighbours: int) -> None:
    bank, x_ND = made_logits(40, 16), made_logits(41, 16)[1:] + 0.3
    oracle = (
        NearestNeighbors(n_neighbors=neighbours, metric="cosine")
        .fit(bank)
        .kneighbors(x_ND)[0][:, -1]
    )
    score = knn_distance(x_ND, unit(bank), neighbours, 1e-3)
    assert score.shape == (40,)
    assert score.dtype == np.float32
    assert np.allclose(score, oracle, atol=2e-6)
    assert np.allclose(knn_distance(1000 * x_ND, unit(bank), neighbours, 1e-3), score, atol=2e-6)
    assert np.allclose(knn_distance(x_ND[:1], unit(bank), neighbours, 1e-3), score[:1], atol=2e-6)


def test_embeddings_shorter_than_the_shortest_resemble_nothing() -> None:
    """Scaled to less than 1, they keep only that share of their similarity."""
    bank, x_ND = unit(made_logits(40, 16)), unit(made_logits(41, 16)[1:] + 0.3)
    strong = knn_distance(2.0 * x_ND, bank, 5, 2.0)
    assert np.allclose(knn_distance(9.0 * x_ND, bank, 5, 2.0), strong, atol=2e-6)
    for share in (0.99, 0.5, 0.1, 0.0):
        assert np.allclose(
            1 - knn_distance(share * 2.0 * x_ND, bank, 5, 2.0), share * (1 - strong), atol=2e-6
        )


def test_an_embedding_of_zeros_is_at_right_angles_to_all() -> None:
    zero = np.zeros((1, 4), np.float32)
    assert unit(zero).tolist() == zero.tolist()
    for shortest in (1e-12, 3.0):
        assert knn_distance(zero, unit(made_logits(5, 4)), 2, shortest).tolist() == [1.0]


def test_distances_run_from_0_to_2() -> None:
    bank = unit(np.array([[3.0, 0.0], [0.0, 2.0]]))
    assert np.allclose(np.linalg.norm(bank, axis=1), 1)
    x_ND = np.array([[5.0, 0.0], [-1.0, 0.0], [0.0, -9.0]])
    assert [knn_distance(x_ND, bank, k, 1.0).tolist() for k in (1, 2)] == [
        [0.0, 1.0, 1.0],
        [1.0, 2.0, 2.0],
    ]
    same = made_logits(200, 64)
    assert abs(knn_distance(same, unit(same), 1, 1.0)).max() < 1e-5  # rounding may leave -1e-7


# --- the answer

PROBABILITIES = np.array([0.05, 0.6, 0.15, 0.2])
LABELS = ["ant", "bee", "cat", "dog"]
NAMED = (("bee", 0.6), ("dog", 0.2), ("cat", 0.15), ("ant", 0.05))


def test_a_known_picture() -> None:
    made = Decision(1.0, "none", Unknown(10, 1.0, 0.3), Sets(0.9, 0.15))
    assert answer(PROBABILITIES, 0.1, LABELS, made, top=2) == Answer(
        "bee", NAMED[:2], 0.1, ("bee", "dog", "cat")
    )


@pytest.mark.parametrize(
    ("score", "known"),
    [(0.3, True), (np.nextafter(0.3, 1), False), (-1.0, True), (2.0, False), (math.nan, False)],
)
def test_only_a_score_above_the_threshold_is_unknown_and_the_nearest_classes_stay(
    score: float | None, known: bool
) -> None:
    said = answer(PROBABILITIES, score, LABELS, Decision(unknown=Unknown(10, 1.0, 0.3)), top=3)
    assert said.label == ("bee" if known else None)
    assert said.top == NAMED[:3]
    assert said.prediction_set is None


def test_a_threshold_that_is_a_float32_score_lets_that_score_pass() -> None:
    score = np.float32(0.1)
    made = Decision.from_json(
        json.loads(json.dumps(Decision(unknown=Unknown(1, 1.0, float(score))).to_json()))
    )
    assert answer(PROBABILITIES, float(score), LABELS, made).label == "bee"


def test_without_a_threshold_every_picture_gets_a_class_and_no_score() -> None:
    assert answer(PROBABILITIES, 1.9, LABELS, Decision()) == Answer("bee", NAMED, None, None)


def test_ties_go_to_the_class_that_comes_first() -> None:
    said = answer(np.full(4, 0.25), None, LABELS, Decision(sets=Sets(0.9, 0.25)), top=9)
    assert said.label == "ant"
    assert said.top == tuple((name, 0.25) for name in LABELS)
    assert said.prediction_set == tuple(LABELS)


@pytest.mark.parametrize(
    ("least", "members"),
    [
        (0.0, "bee dog cat ant"),
        (0.05, "bee dog cat ant"),
        (0.16, "bee dog"),
        (0.2, "bee dog"),
        (0.61, "bee"),
        (1.0, "bee"),
    ],
)
def test_the_set_holds_what_is_probable_enough_and_always_the_first(
    least: float, members: str
) -> None:
    sets = Sets(0.9, least)
    assert answer(PROBABILITIES, None, LABELS, Decision(sets=sets), top=1).prediction_set == tuple(
        members.split()
    )
    assert [LABELS[c] for c in np.flatnonzero(in_set(PROBABILITIES[None], sets)[0])] == sorted(
        members.split()
    )
