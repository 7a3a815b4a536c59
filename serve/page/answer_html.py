"""HTML of the page. Names of classes, runs and files come from strangers: all are escaped, and what
would reorder or hide text in them is shown as an escape."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from serve.engine.answer_queue import AnsweredPicture, AnswerQueue
from zoo.contract.bundle import Bundle
from zoo.contract.decision import Answer
from zoo.host.text import one_line

LISTED = 14
"""Classes named at the top of the page."""
MOST_IN_SET = 30
"""Classes of a prediction set that are named."""
STYLE = (Path(__file__).parent / "templates" / "page.css").read_text(encoding="utf-8")
NOTHING = (
    '<div class="card empty"><p>The answer appears here, with its probability, the other classes '
    "that come into question, and where in the picture the evidence lies.</p></div>"
)


def head(queue: AnswerQueue) -> Markup:
    """Return what this page is, for somebody who has never seen it."""
    labels = queue.model.predictor.bundle.labels
    return Markup(
        '<div class="head"><h1>Which of {} classes is it?</h1><p class="name">{}</p>{}</div>'
    ).format(len(labels), one_line(queue.model.name), _chips(labels, LISTED))


def answer_card(answered: AnsweredPicture) -> Markup:
    """Return the card: answer, how sure, what else, and what that means."""
    result, bundle = answered.prediction.answer, answered.model.predictor.bundle
    bars = Markup().join(bar(label, share) for label, share in result.top)
    kind = "card"
    if result.label is None:
        kind = "card unknown"
    return Markup('<div class="{}" data-label="{}">{}<div class="bars">{}</div>{}</div>').format(
        kind,
        result.label or "unknown",
        _verdict(result, bundle),
        bars,
        _set(result, bundle),
    )


def _verdict(result: Answer, bundle: Bundle) -> Markup:
    """Return the answer itself; for "unknown" also why."""
    if result.label is not None:
        best, probability = result.top[0]
        return Markup('<div class="verdict"><b>{}</b><i>{}</i></div>').format(
            one_line(best), percent(probability)
        )
    threshold = 0.0
    if bundle.decision.unknown:
        threshold = bundle.decision.unknown.threshold
    return Markup(
        '<div class="verdict unknown"><b>unknown</b></div><p class="why">The picture is further '
        "from the training pictures ({:.3g}) than nearly all validation pictures are ({:.3g}): "
        "probably none of the classes. If it were one of them, then:</p>"
    ).format(result.unknown_score, threshold)


def _set(result: Answer, bundle: Bundle) -> Markup:
    """Return the classes of which one is right with the coverage of the bundle; empty for "unknown"
    and where the bundle has no such sets."""
    names, sets = result.prediction_set, bundle.decision.sets
    if names is None or sets is None or result.label is None:
        return Markup()
    words = "it is one of"
    if len(names) == 1:
        words = "it is"
    return Markup('<div class="set"><p>{} certain {}:</p>{}</div>').format(
        percent(sets.coverage), words, _chips(names, MOST_IN_SET)
    )


def _chips(labels: Sequence[str], most: int) -> Markup:
    """Return the first `most` labels, and how many there are besides."""
    chips = Markup().join(map(Markup("<span>{}</span>").format, map(one_line, labels[:most])))
    if len(labels) > most:
        chips += Markup("<em>and {} more</em>").format(len(labels) - most)
    return Markup('<div class="chips">{}</div>').format(chips)


def bar(label: str, share: float) -> Markup:
    """One class with its probability; the exact one in an attribute."""
    return Markup(
        '<div class="bar" data-name="{name}" data-probability="{share!r}"><span>{shown}</span>'
        '<div class="track"><div style="width:{width:.2f}%"></div></div><i>{percent}</i></div>'
    ).format(
        name=label, shown=one_line(label), share=share, width=100 * share, percent=percent(share)
    )


def percent(share: float) -> str:
    """93 %; what would round to 0 or 100 is not called so."""
    # nothing is certain, and 100 % would say so
    if share >= 0.995:
        return "> 99 %"
    if share < 0.01:
        return "< 1 %"
    return f"{share:.0%}".replace("%", " %")


def refusal(sentence: str) -> Markup:
    """Say why there is no answer."""
    return Markup('<div class="card refused"><p>{}</p></div>').format(one_line(sentence))


def note(text: str) -> Markup:
    """Return a short remark."""
    return Markup('<p class="note">{}</p>').format(one_line(text))


@dataclass(frozen=True)
class PictureRow:
    """One of many pictures."""

    file: str
    answer: str = ""
    probability: float = 0.0
    """Of the answer, or of the nearest class."""
    prediction_set: tuple[str, ...] = ()
    unknown_score: float | None = None
    unknown: bool = False
    error: str = ""
    """Why there is no answer; else empty."""


def answers_table(rows: Sequence[PictureRow]) -> Markup:
    """Return how many of the pictures were answered, and the answer to each."""
    answered = sum(not row.error for row in rows)
    return Markup(
        '<p class="note">{} of {} pictures answered.</p><div class="table"><table>'
        "<thead><tr><th>picture</th><th>answer</th><th>probability</th></tr></thead>"
        "<tbody>{}</tbody></table></div>"
    ).format(answered, len(rows), Markup().join(map(_table_row, rows)))


def _table_row(row: PictureRow) -> Markup:
    name, answered = one_line(row.file), one_line(row.answer)
    file = Markup('<td><span title="{}">{}</span></td>').format(name, name)
    if row.error:
        refused = Markup('<tr class="refused">{}<td colspan="2">{}</td></tr>')
        return refused.format(file, one_line(row.error))
    if row.unknown:  # a probability among classes that it is none of would mislead
        return Markup('<tr class="unknown">{}<td>{}</td><td>-</td></tr>').format(file, answered)
    known = Markup("<tr>{}<td>{}</td><td>{}</td></tr>")
    return known.format(file, answered, percent(row.probability))


def curl(root_path: str) -> str:
    """Return how a program asks, as Markdown."""
    return (
        "```bash\ncurl -F file=@picture.jpg 'http://HOST"
        + root_path
        + "/v1/predict?top_k=5&heatmap=true'\n```\n"
        f"All parameters: [openapi.json]({root_path}/openapi.json)"
    )
