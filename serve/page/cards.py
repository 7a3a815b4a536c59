"""HTML and Markdown of the page. Names of classes, runs and files come from strangers: all are
escaped."""

import html
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from serve.engine.engine import Answered, Engine
from zoo.contract import bundle as bundles
from zoo.contract import listed_files, rundir
from zoo.files.folders import read_regular
from zoo.host.errors import UserError

LISTED = 14
"""Classes named at the top of the page."""
# linear: no run is tried twice
DIAGRAM = re.compile(r"((?<!`)```++|(?<!~)~~~++)[ \t]{0,9}mermaid", re.IGNORECASE)
"""Beginning of a block that Gradio would hand to a program of its own, which draws it."""
LARGEST_TEXT = 100_000
"""Bytes of a model card or a proof that are shown; a longer one is left out."""
FOLD = re.compile(
    r"^&lt;details>&lt;summary>(\d{1,4} further settings [a-z ]{1,60})&lt;/summary>$", re.MULTILINE
)
"""Where a card folds the lesser settings of its recipe away."""
STYLE = (Path(__file__).parent / "templates" / "page.css").read_text(encoding="utf-8")
NOTHING = (
    '<div class="card empty"><p>The answer appears here, with its probability, the other classes '
    "that come into question, and where in the picture the evidence lies.</p></div>"
)


def head(engine: Engine) -> str:
    """What this page is, for somebody who has never seen it."""
    bundle = engine.model.predictor.bundle
    more = len(bundle.labels) - LISTED
    names = "".join(f"<span>{html.escape(label)}</span>" for label in bundle.labels[:LISTED])
    return (
        f'<div class="head"><h1>Which of {len(bundle.labels)} classes is it?</h1>'
        f'<p class="name">{html.escape(engine.model.name)}</p><div class="chips">{names}'
        f"{f'<em>and {more} more</em>' if more > 0 else ''}</div></div>"
    )


def answer(answered: Answered) -> str:
    """The card: answer, how sure, what else, and what that means."""
    said, bundle = answered.prediction.answer, answered.model.predictor.bundle
    best, probability = said.top[0]
    parts = []
    if said.label is None:
        threshold = bundle.decision.unknown.threshold if bundle.decision.unknown else 0.0
        parts.append(
            '<div class="verdict unknown"><b>unknown</b></div><p class="why">The picture is '
            "further from the "
            f"training pictures ({said.unknown_score:.3g}) than nearly all validation pictures are "
            f"({threshold:.3g}): probably none of the classes. If it were one of them, then:</p>"
        )
    else:
        parts.append(
            f'<div class="verdict"><b>{html.escape(best)}</b><i>{percent(probability)}</i></div>'
        )
    parts.append(
        f'<div class="bars">{"".join(bar(label, share) for label, share in said.top)}</div>'
    )
    if (
        said.prediction_set is not None
        and bundle.decision.sets is not None
        and said.label is not None
    ):
        chips = "".join(f"<span>{html.escape(label)}</span>" for label in said.prediction_set[:30])
        more = len(said.prediction_set) - 30
        share = percent(bundle.decision.sets.coverage)
        words = "it is" if len(said.prediction_set) == 1 else "it is one of"
        parts.append(
            f'<div class="set"><p>{share} certain {words}:</p>'
            "<div "
            f'class="chips">{chips}{f"<em>and {more} more</em>" if more > 0 else ""}</div></div>'
        )
    kind = "card unknown" if said.label is None else "card"
    return (
        f'<div class="{kind}" '
        f'data-label="{html.escape(said.label or "unknown")}">{"".join(parts)}</div>'
    )


def bar(label: str, share: float) -> str:
    """One class with its probability; the exact one in an attribute."""
    name = html.escape(label)
    return (
        f'<div class="bar" data-name="{name}" data-probability="{share!r}"><span>{name}</span>'
        '<div class="track"><div '
        f'style="width:{100 * share:.2f}%"></div></div><i>{percent(share)}</i></div>'
    )


def percent(share: float) -> str:
    """93 %; what would round to 0 or 100 is not called so."""
    if share >= 0.995:
        return "> 99 %"
    return f"{share:.0%}".replace("%", " %") if share >= 0.01 else "< 1 %"


def refusal(sentence: str) -> str:
    """Why there is no answer."""
    return f'<div class="card refused"><p>{html.escape(sentence)}</p></div>'


def note(text: str) -> str:
    """A short remark, already escaped."""
    return f'<p class="note">{text}</p>'


@dataclass(frozen=True)
class Row:
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


def table(rows: Sequence[Row]) -> str:
    """How many of the pictures were answered, and the answer to each."""
    answered = sum(not row.error for row in rows)
    head_row = "<tr><th>picture</th><th>answer</th><th>probability</th></tr>"
    return (
        f'<p class="note">{answered} of {len(rows)} pictures answered.</p><div '
        'class="table"><table>'
        f"<thead>{head_row}</thead><tbody>{''.join(map(_table_row, rows))}</tbody></table></div>"
    )


def _table_row(row: Row) -> str:
    name = f"<td>{html.escape(row.file)}</td>"
    if row.error:
        return f'<tr class="refused">{name}<td colspan="2">{html.escape(row.error)}</td></tr>'
    answer = f"<td>{html.escape(row.answer)}</td>"
    if row.unknown:  # a probability among classes that it is none of would mislead
        return f'<tr class="unknown">{name}{answer}<td>-</td></tr>'
    return f"<tr>{name}{answer}<td>{percent(row.probability)}</td></tr>"


def curl(root_path: str) -> str:
    """How a program asks."""
    return (
        "```bash\ncurl -F file=@picture.jpg 'http://HOST"
        + root_path
        + "/v1/predict?top_k=5&heatmap=true'\n```\n"
        f"All parameters: [openapi.json]({root_path}/openapi.json)"
    )


def about(engine: Engine) -> str:
    """The model card, and what limits these answers have; Markdown without pictures: they come from
    elsewhere."""
    bundle = engine.model.predictor.bundle
    card = plain(_card(bundle)) or f"# {plain(str(bundle.run.get('name', 'model')))}"
    what, heading, recipe = card.partition("\n## Recipe\n")
    what, own_heading, own_limits = what.partition("\n## Limits\n")
    limits = _limits(bundle, also=own_limits.strip("\n") if own_heading else "")
    return "\n\n".join((what, limits, _proof(bundle, _checked(engine)), heading + _folded(recipe)))


def _folded(recipe: str) -> str:
    """The recipe of a cleaned card, its lesser settings folded away again: the only HTML of a card
    that stays."""
    found = FOLD.search(recipe)
    content, end, rest = (
        recipe[found.end() :].partition("\n&lt;/details>") if found else ("", "", "")
    )
    if not found or not end:
        return recipe
    folded = f"<details><summary>{found[1]}</summary>{content}\n</details>"
    return f"{recipe[: found.start()]}{folded}{rest}"


def _card(bundle: bundles.Bundle) -> str:
    """The model card of the run that the bundle was made from, without its front matter; empty if
    there is none.

    A bundle may lie in a folder that is no run, or a different one: a card is shown only if the
    manifest of the bundle's own run lists it with these bytes.
    """
    run = bundle.folder.parent.parent
    try:
        own = rundir.is_finished(run) and rundir.finished_sha256(run) == bundle.run.get(
            "finished_sha256"
        )
        card = (
            _text(run / rundir.CARD, lambda: listed_files.listed(run, rundir.CARD)) if own else ""
        )
    except _UNREADABLE:
        return ""
    if card.startswith("---\n"):
        _, end, card = card[4:].partition("\n---\n")
        card = card if end else ""
    return card


_UNREADABLE = (
    UserError,
    OSError,
    ValueError,
    RecursionError,
    LookupError,
    TypeError,
    AttributeError,
)
"""What files that strangers wrote can end in; then there is nothing to show."""


def _text(path: Path, listed: Callable[[], Path | None]) -> str:
    """The text of a file if a manifest lists it, it is no link, and not larger than any that is
    written here."""
    if not path.exists() or path.lstat().st_size > LARGEST_TEXT or listed() is None:
        return ""
    return (
        read_regular(path, LARGEST_TEXT, follow=False)
        .decode("utf-8", "replace")
        .replace("\r\n", "\n")
    )


def plain(markdown: str) -> str:
    """Markdown that shows no picture, draws no diagram and holds no HTML, in linear time.

    Pictures become links: an exclamation mark written as an entity is only itself.
    """
    markdown = DIAGRAM.sub(r"\1text", markdown)
    return markdown.replace("<", "&lt;").replace("![", "&#33;[").strip()


def _limits(bundle: bundles.Bundle, *, also: str) -> str:
    """The limits of these answers, and below them `also`: those of the card, which begin with what
    it knows."""
    decision = bundle.decision
    lines = [
        "Probabilities were calibrated on validation pictures. For pictures of another kind "
        "(camera, style, time) they can be too high."
    ]
    if decision.unknown is None:
        lines.append(
            "It has no measure for pictures that are none of its classes: every picture gets a "
            "class."
        )
    if decision.sets is not None:
        share = percent(decision.sets.coverage)
        lines.append(
            f"“{share} certain” means: the classes named there hold the right one for {share} of "
            "pictures like those of validation; not for each class by itself."
        )
    lines.append(
        "The heat map shows where the first choice found evidence, not that this was the right "
        "reason."
    )
    lines.append(
        f"A picture is seen at {bundle.pre.size} x {bundle.pre.size} pixels: finer detail has no "
        "influence."
    )
    if not also:
        lines.insert(
            0,
            "The classes above are all it knows: a picture of anything else is, at best, called "
            "unknown.",
        )
    return "\n".join(["## Limits\n", *(f"- {line}" for line in lines), also]).rstrip()


def _checked(engine: Engine) -> str:
    """On what it answers here, and whether that was compared."""
    predictor = engine.model.predictor
    answers = f"Here it answers on {predictor.provider}"
    if predictor.checked is None or not predictor.checked.pictures:
        return f"{answers}, which was not compared with the machine that exported it."
    pictures, worst = predictor.checked.pictures, predictor.checked.worst
    return (
        f"{answers}: {pictures} pictures differ by at most {worst:.2g} from "
        f"{predictor.checked.against}."
    )


def _proof(bundle: bundles.Bundle, checked: str) -> str:
    """What the export measured against the trained model, and what this machine measured against
    the export."""
    lines = [f"Model file: sha256 `{bundle.model_sha256}`, status {bundle.status}. {checked}"]
    rows = _rungs(bundle)
    if rows:
        head_row = "| exported against trained | largest difference | limit | pictures |"
        lines += ["", head_row, "| --- | --- | --- | --- |", *rows]
    return "## The exported file\n\n" + "\n".join(lines)


def _rungs(bundle: bundles.Bundle) -> list[str]:
    """A line of the table for each comparison; none if the proof says nothing that can be read."""
    try:
        path = bundle.folder / bundles.PARITY
        proof = json.loads(_text(path, lambda: bundle.file(bundles.PARITY)) or "{}")
        return [
            f"| {plain(str(rung['name']))} | {_number(rung['worst'], '.2g')} | "
            f"{_number(rung['limit'], 'g')} | {rung['pictures']:d} |"
            for rung in proof.get("rungs", [])
        ]
    except _UNREADABLE:
        return []


def _number(value: float | None, form: str) -> str:
    """A number of the proof; what has none was not judged: a bundle of int8 differs as its accuracy
    allows."""
    return "not judged" if value is None else format(value, form)
