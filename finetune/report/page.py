"""Building blocks of a self-contained HTML page: text that is escaped unless it is `Html`, tables,
numbers, figures.

The page has no script, and its Content-Security-Policy forbids scripts and every request.
"""

import html
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest

from finetune.figures.drawing import Drawing, printable
from finetune.report.style import STYLE


class Html(str):
    """Text that is HTML already. Every other string is escaped when it enters a page."""


def escape(value: object) -> Html:
    """`value` as HTML text, also safe within quotes; `Html` stays as it is."""
    return value if isinstance(value, Html) else Html(html.escape(printable(str(value))))


def fill(template: str, *values: object, **named: object) -> Html:
    """`template.format(...)` with every value escaped.

    >>> fill("<b>{}</b>", "a < b")
    '<b>a &lt; b</b>'
    """
    return Html(
        template.format(
            *map(escape, values), **{key: escape(value) for key, value in named.items()}
        )
    )


def join(parts: Iterable[object], separator: str = "") -> Html:
    """The parts, each escaped, with `separator` (HTML) between them."""
    return Html(separator.join(map(escape, parts)))


def bdi(text: str) -> Html:
    """A name given by a user, isolated so that right-to-left letters in it do not reorder what
    stands around it."""
    return fill("<bdi>{}</bdi>", text)


def breakable(identifier: str) -> Html:
    """An identifier that may be wrapped after its underscores."""
    return Html(escape(identifier).replace("_", "_<wbr>"))


def percent(share: float | None, digits: int = 1) -> str:
    """0.974 -> '97.4 %', None -> a dash."""
    return "–" if share is None else f"{100 * share:.{digits}f}\u00a0%"


def duration(seconds: float) -> str:
    """127.3 -> '2 min 7 s'."""
    hours, rest = divmod(round(seconds), 3600)
    parts = ((hours, "h"), (rest // 60, "min"), (rest % 60, "s"))
    shown = [f"{value}\u00a0{unit}" for value, unit in parts if value]
    return " ".join(shown[:2]) or f"{seconds:.1f}\u00a0s"


def file_size(size: int) -> str:
    """1,234,567 bytes -> '1.2 MB'."""
    for scale, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= scale:
            return f"{size / scale:.1f}\u00a0{unit}"
    return f"{size}\u00a0bytes"


def table(columns: Mapping[str, str], rows: Iterable[Sequence[object]], *, css: str = "") -> Html:
    """A table. `columns`: heading -> CSS class of its cells (`num` is right-aligned), '' for
    none."""
    classes = list(columns.values())

    def line(cells: Sequence[object], tag: str) -> Html:
        return fill(
            "<tr>{}</tr>\n",
            join(
                fill(
                    "<{tag}{css}>{cell}</{tag}>",
                    tag=tag,
                    css=fill(' class="{}"', kind) if kind else "",
                    cell=cell,
                )
                for cell, kind in zip_longest(cells, classes, fillvalue="")
            ),
        )

    return fill(
        '<div class="scroll"><table class="{}"><thead>{}</thead><tbody>\n{}</tbody></table></div>',
        css,
        line(list(columns), "th"),
        join(line(row, "td") for row in rows),
    )


def meter(share: float | None, shown: str) -> Html:
    """A number over a bar of its share."""
    return fill(
        '<span class="meter" style="--share:{}%">{}</span>', f"{100 * (share or 0):.1f}", shown
    )


def image(drawing: Drawing, style: str = "") -> Html:
    """A figure, embedded; a sentence in its place if it could not be drawn."""
    if not drawing.svg:
        return fill(
            '<p class="notice">The figure {} could not be drawn and is left out ({}).</p>',
            drawing.name,
            drawing.alt,
        )
    return fill(
        '<img src="{}" width="{}" height="{}" alt="{}" style="{}">',
        drawing.uri(),
        drawing.width,
        drawing.height,
        drawing.alt,
        style,
    )


def section(key: str, title: str, *parts: object) -> Html:
    """A section with a heading; `#key` leads to it."""
    return fill('<section id="{}"><h2>{}</h2>\n{}</section>\n', key, title, join(parts))


def part(title: str, *parts: object) -> Html:
    """A part of a section with its own heading."""
    return fill('<div class="part"><h3>{}</h3>\n{}</div>\n', title, join(parts))


def soft(template: str, *values: object) -> Html:
    """A paragraph of explanation, filled as by `fill`."""
    return fill('<p class="soft prose">{}</p>', fill(template, *values))


def facts(items: Iterable[tuple[object, object, object]]) -> Html:
    """Numbers with what they are: (title, value, small print); those without a title are left
    out."""
    return fill(
        '<dl class="tiles">{}</dl>',
        join(
            fill(
                "<div><dt>{}</dt><dd>{}{}</dd></div>",
                title,
                value,
                fill("<small>{}</small>", small) if small else "",
            )
            for title, value, small in items
            if title
        ),
    )


def strong(text: str, yes: bool) -> Html:
    """Text, set bold if `yes`."""
    return fill("<b>{}</b>" if yes else "{}", text)


def interval_bar(
    low: float, value: float, high: float, *, floor: float, mark: float | None = None
) -> Html:
    """A share and its interval drawn on the scale from `floor` to 1; `mark` is a share to compare
    with."""
    left, middle, right, line = (
        100 * (x - floor) / (1 - floor) for x in (low, value, high, mark or floor)
    )
    marked = fill('<u style="left:{}%"></u>', f"{line:.1f}") if mark is not None else ""
    return fill(
        '<span class="range"><i style="left:{}%;width:{}%"></i>{}<b style="left:{}%"></b></span>',
        f"{left:.1f}",
        f"{right - left:.1f}",
        marked,
        f"{middle:.1f}",
    )


def interval_text(interval: Sequence[float]) -> str:
    """(0.861, 0.912) -> '86.1 – 91.2'."""
    return " – ".join(f"{100 * x:.1f}" for x in interval)


def plural(count: int, noun: str) -> str:
    """1, 'picture' -> '1 picture'; 1200, 'picture' -> '1,200 pictures'."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def details(summary: str, content: object) -> Html:
    """Content that is folded away until the summary is clicked."""
    return fill("<details><summary>{}</summary>{}</details>", summary, content)


def document(title: str, body: Html) -> str:
    """The whole page."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return fill(
        """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}</body>
</html>
""",
        policy=Html(policy),
        title=title,
        style=Html(STYLE),
        body=body,
    )
