"""The sections of the model card that hold numbers: results, classes, exports, data, recipe."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zoo.contract import bundle as bundles
from zoo.contract import recipe_rows
from zoo.contract.bundle import Bundle
from zoo.contract.figures import Figures, figures
from zoo.contract.finished_run import FinishedRun
from zoo.contract.report import Numbers, Plain
from zoo.host.text import code, plain
from zoo.publish.destination import Destination
from zoo.publish.limits import MOST_NAMED


def results(facts: FinishedRun) -> str:
    """The table of the headline: as deployed, and without views and calibration."""
    numbers, decision = facts.report.headline.numbers, facts.decision
    deployed = f"as deployed: views {decision['views']}, temperature {decision['temperature']:.2f}"
    return markdown_table(
        ["answer", "top-1", "95 % interval", "loss", "calibration error"],
        [
            _result_row(deployed, numbers),
            _result_row("one view, temperature 1 (timm, transformers)", numbers.plain),
        ],
    )


def _result_row(answer: str, numbers: Numbers | Plain) -> list[str]:
    low, high = numbers.top1_interval
    interval = f"{low:.1%} to {high:.1%}"
    return [answer, f"{numbers.top1:.2%}", interval, f"{numbers.loss:.3f}", f"{numbers.ece:.1%}"]


def results_note(facts: FinishedRun) -> str:
    """The sentences below the table of results."""
    head, probe = facts.report.headline, facts.report.probe
    numbers = head.numbers
    sentences = [f"As deployed: top-5 {numbers.top5:.2%}, macro F1 {head.macro_f1:.3f}."]
    if sets := facts.decision.get("sets"):
        sentences.append(
            f"Prediction sets fitted to hold the true class in {sets['coverage']:.0%} do so in "
            f"{numbers.covered:.1%}, with {numbers.mean_set_size:.2f} classes on average."
        )
    if probe:
        sentences.append(
            f"A linear probe on the base's frozen features: {probe.select_top1:.2%} on the "
            "pictures by which the weights are chosen."
        )
    return " ".join(sentences)


def per_class(facts: FinishedRun) -> str:
    """The table of classes; of many, those with the lowest F1, and a line that says so."""
    rows, note = list(facts.report.per_class), ""
    if len(rows) > MOST_NAMED:
        note = f"\nThe {MOST_NAMED} classes with the lowest F1 of {len(rows)}."
        # a class without an F1 was never found, and stands with the worst
        rows = sorted(rows, key=lambda row: row.f1 or 0.0)[:MOST_NAMED]
    cells = []
    for row in rows:
        shares = map(share, (row.precision, row.recall, row.f1))
        cells.append([code(row.name), str(row.pictures), *shares])
    return markdown_table(["class", "pictures", "precision", "recall", "F1"], cells) + note


def share(value: float | None) -> str:
    """A share in percent; - where it is undefined."""
    return "-" if value is None else f"{value:.1%}"


def calibration(facts: FinishedRun) -> str:
    """What the reliability diagram shows, in numbers."""
    numbers, fitted = facts.report.headline.numbers, facts.decision["fitted"]
    return (
        f"Calibration error {numbers.plain.ece:.1%} before and {numbers.ece:.1%} after one "
        f"temperature ({facts.decision['temperature']:.2f}), fitted on {fitted['pictures']:,} "
        f"pictures of {fitted['split']}."
    )


def exports(facts: FinishedRun, opened: Sequence[Bundle], destination: Destination | None) -> str:
    """The table of bundles: what each says of its accuracy, size and latency; "" without any."""
    if not opened:
        return ""
    # a card that stays on this machine need hide nothing
    cut = destination.cut if destination else str
    rows, machines = [], set()
    for bundle in opened:
        shown = figures(bundle)
        rows.append(
            [
                code(bundle.target) + _where(bundle, destination),
                accuracy_text(shown, facts.report.headline.numbers.top1),
                plain(cut(shown.proved_on)),
                f"{shown.model_mb:.1f}",
                "-" if shown.latency_ms is None else f"{shown.latency_ms:.1f}",
                plain(cut(shown.status)),
            ]
        )
        if shown.measured_on:
            machines.add(cut(shown.measured_on))
    top1 = f"top-1 on {facts.report.headline.split}"
    text = markdown_table(["target", top1, "proved on", "MB", "ms", "status"], rows)
    if machines:
        measured_on = plain("; ".join(sorted(machines)))
        text += f"\n\nMilliseconds for one picture, measured on {measured_on}."
    return text


def _where(bundle: Bundle, destination: Destination | None) -> str:
    """A remark if a bundle does not lie where the card will be read."""
    described = f"{bundles.BUNDLES}/{bundle.place.name}/{bundles.BUNDLE}"
    return "" if destination and described in destination.files else " (not here)"


def accuracy_text(shown: Figures, top1: float) -> str:
    """What is known of an exported model's accuracy, in words."""
    if shown.lost_points is None:
        return f"{top1:.2%}, as trained: the same class for all {shown.compared} compared pictures"
    return (
        f"{top1:.2%} as trained; {-shown.lost_points:+z.2f} points on {shown.compared} compared "
        "pictures"
    )


def data_summary(facts: FinishedRun) -> str:
    """How many pictures there are, how they were split, and what was found in the data."""
    lines = [
        markdown_table(
            ["split", "pictures", "classes", "smallest class", "largest class"],
            list(_split_rows(facts.data["counts"])),
        ),
        f"\nValidation: {plain(facts.data['val'])}. Digest of paths, labels and bytes: "
        f"`{facts.data['digest']}`. Every picture was decoded before training.",
    ]
    if findings := facts.data["findings"]:
        lines += ["\nFound in the data:", *(f"- {plain(finding)}" for finding in findings)]
    return "\n".join(lines)


def _split_rows(counts: Mapping[str, Mapping[str, int]]) -> Iterator[list[str]]:
    for split, of_class in counts.items():
        if of_class:
            pictures = of_class.values()
            numbers = (sum(pictures), min(pictures), max(pictures))
            total, smallest, largest = map("{:,}".format, numbers)
            yield [split, total, str(sum(map(bool, pictures))), smallest, largest]


def recipe_table(recipe: Mapping[str, Mapping[str, Any]]) -> str:
    """What was chosen or set by hand, with its reason; the rest folded away."""
    shown, folded = recipe_rows.parted(recipe)
    tables = [_setting_rows(settings) for settings in (shown, folded) if settings]
    summary = f"<details><summary>{recipe_rows.folded_title(folded)}</summary>"
    text = f"\n\n{summary}\n\n".join(tables)
    if len(tables) > 1:
        text += "\n\n</details>"
    return text


def _setting_rows(settings: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for name, row in settings.items():
        rows.append([plain(name), code(str(row["value"])), plain(row["why"])])
    return markdown_table(["setting", "value", "why"], rows)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; cells are escaped already."""
    # Markdown begins a table only where a row of dashes follows the head
    lines = map(" | ".join, (head, ["---"] * len(head), *rows))
    return "\n".join(f"| {line} |" for line in lines)
