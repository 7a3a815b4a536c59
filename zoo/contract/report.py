"""`report.json`: the final numbers of a run, as one typed value.

    read_report_json(file)              the value; `UserError` if the file is damaged or not ours
    write_report_json(folder, report)   the file, byte for byte as a run writes it

Shares, precision, recall, F1 and areas run from 0 to 1, losses are cross-entropies in nats. A field
with the default None was added later, or is left out of a published copy; older files lack it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from zoo.contract import rundir
from zoo.files import checks, typed_json

Interval = tuple[float, float]
"""95 % confidence interval of a share: its lower and its upper end."""
ROUNDING = 1e-9
"""The interval of a share of 0 or 1 ends within this of it, not exactly at it."""


@dataclass(frozen=True)
class Plain:
    """The answers of one view at temperature 1, which timm and transformers give too."""

    top1: float
    """Share of right answers."""
    loss: float
    top1_interval: Interval
    ece: float
    """Expected calibration error: mean distance of confidence and share of right answers."""

    def __post_init__(self) -> None:
        _check_shares(self.top1, self.top1_interval, self.ece)


@dataclass(frozen=True)
class Numbers:
    """How good the deployed answers to the pictures of one split are."""

    pictures: int
    top1: float
    """Share of right answers."""
    top1_interval: Interval
    top5: float
    """Share of pictures whose class is among the five most probable."""
    loss: float
    ece: float
    """Expected calibration error: mean distance of confidence and share of right answers."""
    covered: float
    """Share of pictures whose class is in the prediction set."""
    mean_set_size: float
    """Classes in a prediction set, on average."""
    plain: Plain

    def __post_init__(self) -> None:
        _check_shares(self.top1, self.top1_interval, self.ece)


@dataclass(frozen=True)
class Headline:
    """The numbers that a run is known by: of test, else of the half of val that chose no weights,
    else of val."""

    split: str
    note: str
    """What a reader must know about this split."""
    macro_precision: float
    """Mean over the classes that have pictures, as the next two."""
    macro_recall: float
    macro_f1: float
    numbers: Numbers = field(metadata=typed_json.INLINE)


@dataclass(frozen=True)
class ClassNumbers:
    """One class in the headline's split; a share that is not defined is None."""

    name: str = field(metadata=typed_json.named("class"))
    pictures: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Foreign:
    """A set of pictures that show none of the classes."""

    pictures: int
    auroc: float
    """Probability that such a picture has a higher unknown score than one of the headline's."""
    rejected: float
    """Share that is called unknown."""
    confidence: float
    """Mean probability of the plain answer, which knows no unknown."""


@dataclass(frozen=True)
class Weakest:
    """The foreign set of which the fewest pictures are called unknown."""

    foreign: str
    """Its name."""
    rejected: float
    """Share of it that is called unknown."""


@dataclass(frozen=True)
class UnknownRates:
    """How well the unknown score tells foreign pictures from those of the headline's split."""

    rejected: float
    """Share of the headline's own pictures that is called unknown."""
    foreign: Mapping[str, Foreign]
    """Name of the set -> its numbers."""
    weakest: Weakest | None = None

    @property
    def rejected_of(self) -> dict[str, float]:
        """Name of a foreign set -> share of it that is called unknown."""
        return {name: row.rejected for name, row in self.foreign.items()}


@dataclass(frozen=True)
class ProbeResult:
    """The linear probe on the base's frozen features."""

    select_top1: float
    """Share of right answers on the pictures that choose the weights."""
    kept: bool
    """Whether no epoch of the fine-tuning was better, so that the probe is the result."""


@dataclass(frozen=True)
class BestWeights:
    """The weights that were kept, and their numbers on the pictures that chose them."""

    epoch: int
    """0: before the first step."""
    step: int
    """Steps of the optimizer."""
    top1: float
    top5: float
    loss: float
    pictures: int
    balanced: float | None = None
    """Mean over the classes of the share of right answers, where it chose instead of top-1."""


@dataclass(frozen=True)
class BaseSummary:
    """The pretrained model that the run began with; None = not known."""

    name: str
    """Alias of the catalogue, or name of a run folder."""
    architecture: str | None
    """timm's name."""
    hub_id: str | None
    """`org/name` on the Hugging Face Hub, with `@revision` if one was asked for."""
    licence: str | None
    pretrained_on: str | None
    """Name of the data."""


@dataclass(frozen=True)
class Curves:
    """The means of the classes' curves, and of their areas."""

    precision: tuple[float, ...]
    """At recalls from 0 to 1 in even steps."""
    tpr: tuple[float, ...]
    """True positive rate, at false positive rates from 0 to 1 in even steps."""
    average_precision: float
    """Area under the first curve."""
    auroc: float
    """Area under the second curve."""


@dataclass(frozen=True)
class ClassCurves:
    """One class against all others."""

    name: str = field(metadata=typed_json.named("class"))
    curves: Curves = field(metadata=typed_json.INLINE)


@dataclass(frozen=True)
class ClassAreas:
    """The areas under the two curves of one class."""

    name: str = field(metadata=typed_json.named("class"))
    average_precision: float
    auroc: float


@dataclass(frozen=True)
class Ranking:
    """Precision-recall and ROC curves on the headline's split."""

    macro: Curves | None
    """None where the split holds one class only."""
    worst: tuple[ClassCurves, ...]
    """The classes with the lowest average precision, the lowest first."""
    classes: tuple[ClassAreas, ...]
    """Every class that the split can rank."""


@dataclass(frozen=True)
class Report:
    """All of `report.json`, in the order of its keys."""

    probe: ProbeResult | None
    """None where no probe was fitted."""
    best: BestWeights
    base: BaseSummary
    device: str
    """As torch names it: `cpu`, `cuda:0`."""
    versions: Mapping[str, str]
    """Program -> version that the run was made with."""
    headline: Headline
    splits: Mapping[str, Numbers]
    """val, its halves and test, as far as they are there."""
    per_class: tuple[ClassNumbers, ...]
    """In the order of the classes."""
    unknown: UnknownRates | None
    """None where no threshold was fitted."""
    heatmaps: Mapping[str, tuple[tuple[float, ...], ...]] | None = None
    """Path of a wrongly answered picture -> map of what spoke for the answer, rows from top to
    bottom."""
    curves: Ranking | None = None
    seconds: float = field(kw_only=True)
    """That the run took."""


def _check_shares(top1: float, interval: Interval, ece: float) -> None:
    low, high = interval
    # also refuses NaN, which passes no comparison
    ordered = (0 <= low <= high <= 1) and low - ROUNDING <= top1 <= high + ROUNDING
    if not ordered or not 0 <= top1 <= 1 or not 0 <= ece <= 1:
        raise ValueError(
            f"expected shares from 0 to 1 in their interval, seen {low:g}, {top1:g}, {high:g}, "
            f"{ece:g}"
        )


def write_report_json(folder: Path, report: Report) -> None:
    """Write `report.json` of a run folder."""
    rundir.write_json(folder / rundir.REPORT, typed_json.json_of(report))


def read_report_json(file: Path) -> Report:
    """The report in a file; `UserError` if it is missing, damaged, or not what a run wrote."""
    content = rundir.read_json(file, kind=dict)
    with checks.of(file, "Copy the run folder again, or train it again."):
        return typed_json.dataclass_of(Report, content)
