"""Does a bundle answer here as it did where it was exported? Asked on the provider that is about to
serve.

An export's proof runs on the CPU, and a GPU computes by a different program. Known of ONNX Runtime
on CUDA:
- A cubic Resize with antialias was incomplete when it made a picture smaller, and ignored the
  coefficient of its filter (microsoft/onnxruntime #25264 of July 2025: 1.22 and older; corrected by
  #25265, and its report is still open).
- Every Resize of opset 19 and later ran on the CPU: right, but slow (#27415 of February 2026: 1.24
and older). Our files have opset 20: the versions whose kernel was wrong had none for it, and ran
Resize on the CPU. The oldest that zoo/host/minimum.py takes, 1.27 of June 2026, is newer than both
corrections. Models that resize by matrix products (export/graph/resize.py: TensorRT, OpenVINO,
borders, other filters) have no Resize that could be wrong.

    checked = check_answers(bundle, "cuda", answer, by_cpu)      UserError if it answers otherwise
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.answer import onnx_runtime
from zoo.contract import bundle as bundles
from zoo.contract import rundir
from zoo.contract.bundle import Bundle
from zoo.host.errors import BadImage, UserError
from zoo.host.text import one_line

Answer = Callable[[Path | np.ndarray], np.ndarray]
"""A picture's file or pixels -> float32, its `compared_numbers`."""
MOST = 6
"""Examples that are answered at most, as many as an export writes."""
LOSSY_TOLERANCE = 0.05
"""The limit for int8 and fp16, whose examples hold the bundle's own answers where it was exported.

A last bit that is rounded otherwise moves an 8-bit activation by a whole step, so that two right
ways to compute the same file differ. Twice the largest difference measured: 0.0235, between ONNX
Runtime's 8-bit kernels and the same file computed node by node in float32, as GPUs do
(EfficientNet-Lite0 in int8, 120 digits; nine of ten below 0.0011; the fp32 file: below 0.00005)."""


@dataclass(frozen=True)
class Checked:
    """How a bundle's answers here compare."""

    pictures: int
    """How many were compared; 0 if there is nothing to compare with."""
    worst: float
    """The largest difference of a probability or unknown score."""
    against: str = ""
    """What they were compared with, in words."""


@dataclass(frozen=True, eq=False)
class Compared:
    """One picture, answered twice."""

    name: str
    expected: np.ndarray
    """`compared_numbers`; those of an export of an earlier version have no unknown score."""
    seen: np.ndarray
    """`compared_numbers`"""

    @property
    def differences(self) -> np.ndarray:
        """Of each expected number; infinite where there is none."""
        missing = max(0, len(self.expected) - len(self.seen))
        seen = np.append(self.seen[: len(self.expected)], np.full(missing, np.inf))
        return np.abs(seen - self.expected)

    @property
    def worst(self) -> float:
        """The largest difference of a probability or unknown score."""
        return float(self.differences.max())


def compared_numbers(probabilities: np.ndarray, unknown_score: float | None) -> np.ndarray:
    """What is compared, and what an answer depends on: [classes] or, with an unknown score, that
    behind them."""
    if unknown_score is None:
        return probabilities
    return np.append(probabilities, np.float32(unknown_score))


def check_answers(
    bundle: Bundle, provider: str, answer: Answer, by_cpu: Callable[[], Answer]
) -> Checked:
    """Compare the answers of `provider` with those that the export wrote down for the bundle's
    examples.

    Without examples, two made pictures must get the same answers from a GPU as from the CPU
    (`by_cpu` loads it), where the proof was made; on the CPU itself there is nothing to compare
    with. Raises `UserError` for the first difference above the limit, with provider, version,
    picture, both answers, and what to do.
    """
    if examples(bundle):
        pictures = by_examples(bundle, answer)
        against = "the probabilities that its export wrote down"
    elif provider == "cuda":
        pictures = by_made_pictures(answer, by_cpu())
        against = "the probabilities that the CPU gives"
    else:
        return Checked(0, 0.0)
    count, worst = 0, 0.0
    for picture in pictures:
        # `not <=`, so that NaN is refused too
        if not picture.worst <= limit(bundle):
            raise UserError(_refusal(bundle, provider, picture, against))
        count, worst = count + 1, max(worst, picture.worst)
    return Checked(count, worst, against)


def limit(bundle: Bundle) -> float:
    """The largest difference of a probability or unknown score that is accepted."""
    if bundle.content.get("precision", "fp32") == "fp32":
        return bundles.TOLERANCE
    return LOSSY_TOLERANCE


def by_examples(bundle: Bundle, answer: Answer) -> Iterator[Compared]:
    """The bundle's examples, at most `MOST`; `UserError` for one that cannot be read."""
    for path, expected in examples(bundle)[:MOST]:
        try:
            seen = answer(path)
        except BadImage as error:
            raise UserError(f"{error}. {bundles.export_it(bundle.folder)}") from None
        wanted = compared_numbers(
            np.array(expected["probabilities"], np.float64), expected.get("unknown_score")
        )
        yield Compared(str(path), wanted, seen)


def by_made_pictures(answer: Answer, right: Answer) -> Iterator[Compared]:
    """A large and a small picture, so that both directions of resizing are seen."""
    # waves of several lengths with hard edges: a flat picture would hide a wrong filter
    for height, width in ((480, 640), (30, 40)):
        down, across = np.mgrid[0:height, 0:width] / height
        waves = np.stack(
            [np.sin(40 * down * across), np.sin(9 * across - 5 * down), np.cos(25 * down)], 2
        )
        stripes = (down + across) * height // 5 % 2
        picture = (127.5 + 127.5 * waves * stripes[..., None]).astype(np.uint8)
        yield Compared(f"a made picture of {width} x {height}", right(picture), answer(picture))


def _refusal(bundle: Bundle, provider: str, picture: Compared, against: str) -> str:
    program = onnx_runtime.program(provider)
    package = program.split()[0]
    advice = f"Try another version of {package}"
    if provider == "cuda":
        advice = f"Use --provider cpu, or another version of {package}"
    expected = _shown(bundle, picture, picture.expected)
    seen = _shown(bundle, picture, picture.seen)
    return (
        f"{picture.name}: expected {against} ({expected}), seen {seen} on provider {provider} of "
        f"{program}: a difference of {picture.worst:.3g}, at most {limit(bundle):g} is accepted. "
        f"{advice}; --no-self-check answers all the same. Or the bundle itself is wrong. "
        f"{bundles.export_it(bundle.folder)}"
    )


def _shown(bundle: Bundle, picture: Compared, answered: np.ndarray) -> str:
    """What differs most, in words: the unknown score, or the most probable class and its
    probability."""
    count = len(bundle.labels)
    if picture.differences.argmax() >= count:
        if len(answered) > count:
            return f"unknown score {answered[count]:.3f}"
        return "no unknown score"
    probabilities = answered[:count]
    best = int(probabilities.argmax())
    return f"class {one_line(bundle.labels[best])} at {probabilities[best]:.3f}"


def unchecked(bundle: Bundle, provider: str) -> str:
    """The sentence for a bundle that had nothing to compare with."""
    return (
        f"{bundle.folder} has no examples, so nothing was checked: whether provider {provider} of "
        f"{onnx_runtime.program(provider)} answers like the machine that exported it is not known."
    )


def examples(bundle: Bundle) -> list[tuple[Path, dict[str, Any]]]:
    """(picture, its expected label, probabilities and unknown score) of a bundle's examples; it may
    have none.

    Only of pictures that the bundle's manifest lists, by plain names: `UserError` for any other.
    """
    listed = bundle.file(f"{bundles.EXAMPLES}/{bundles.EXPECTED}")
    if listed is None:
        return []
    expected = rundir.read_json(listed)
    count = len(bundle.labels)
    refusal = UserError(
        f"{listed}: expected names of pictures of this folder, each with {count} "
        f"probabilities, seen another entry. {bundles.export_it(bundle.folder)}"
    )
    if not isinstance(expected, dict):
        raise refusal
    found: list[tuple[Path, dict[str, Any]]] = []
    for name, answer in expected.items():
        # a name with a folder in it could be any file
        if Path(name).name != name or not isinstance(answer, dict):
            raise refusal
        path = bundle.file(f"{bundles.EXAMPLES}/{name}")
        if path is None or not _has_numbers(answer, count):
            raise refusal
        found.append((path, answer))
    return found


def _has_numbers(answer: dict[str, Any], count: int) -> bool:
    """Whether an example has one number for each class, and a number where it has an unknown
    score."""
    probabilities = answer.get("probabilities")
    if not isinstance(probabilities, list) or len(probabilities) != count:
        return False
    score = answer.get("unknown_score")
    values = list(probabilities)
    if score is not None:
        values.append(score)
    return all(isinstance(number, int | float) and math.isfinite(number) for number in values)
