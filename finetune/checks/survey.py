"""All that the checks look at, and the checks in the order in which they are shown."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

from torch import nn

from finetune.checks import class_sizes, copies, label_errors, odd_pictures, packages, shortcuts
from finetune.checks.answers import ProbeAnswers, answered
from finetune.checks.features import Features, extracted
from finetune.checks.finding import Finding
from finetune.checks.label_errors import Suspect
from finetune.checks.measures import Measures, measure_all
from finetune.checks.near_duplicates import Pair, find_pairs
from finetune.data.dataset import Data
from finetune.data.loader import PictureSource


@dataclass(frozen=True)
class Survey:
    """What was measured, and what was found in it."""

    data: Data
    measures: Measures
    features: Features
    answers: ProbeAnswers
    pairs: tuple[Pair, ...]
    suspects: tuple[Suspect, ...]
    findings: tuple[Finding, ...]
    pictures_per_s: float
    """Read and passed through the base."""


def survey(
    model: nn.Module, data: Data, source: PictureSource, *, precision: str, processes: int
) -> Survey:
    """Measure the pictures of the data, and run every check.

    `processes` read pictures. Raises `UserError` where the base cannot tell the pictures apart, and
    for a package of the extra `check` that is missing.
    """
    packages.require(*packages.EXTRA)
    measures = measure_all(data, processes)
    began = perf_counter()
    features = extracted(model, data, source, precision)
    rate = len(features.indices) / (perf_counter() - began)
    answers = answered(data, features)
    pairs = find_pairs(data, measures, features)
    suspects = label_errors.find_label_errors(data, features, answers)
    checks: tuple[Callable[[], Finding], ...] = (
        lambda: copies.found_by_scan(data),
        lambda: copies.near_duplicates(data, features, pairs),
        lambda: copies.leaks(data, pairs),
        lambda: copies.two_labels(data, pairs),
        lambda: label_errors.label_finding(data, features, suspects),
        lambda: shortcuts.shortcut_finding(data, measures, features, answers),
        lambda: class_sizes.confused(data, features, answers),
        lambda: class_sizes.few(data),
        lambda: class_sizes.imbalance(data),
        lambda: odd_pictures.outliers(data, features),
        lambda: odd_pictures.odd_sizes(data),
        lambda: odd_pictures.uniform(data, measures),
        lambda: odd_pictures.blurred(data, measures),
    )
    findings = tuple(check() for check in checks)
    return Survey(data, measures, features, answers, tuple(pairs), tuple(suspects), findings, rate)
