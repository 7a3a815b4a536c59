"""Building blocks of a self-contained HTML page: text that markupsafe escapes unless it is
`Markup`, tables, numbers, figures.

The page has no script, and its Content-Security-Policy forbids scripts and every request.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest

from markupsafe import Markup

from finetune.figures.drawing import Drawing, printable
from finetune.report.style import STYLE


def fill(template: str, *values: object, **named: object) -> Markup:
    """Format a template as `template.format(...)` does, with every value escaped.

    >>> fill("<b>{}</b>", "a < b")
    Markup('<b>a &lt; b</b>')
    """
    # `Markup.format` escapes what is no `Markup`
    shown = {key: _shown(value) for key, value in named.items()}
    return Markup(template).format(*map(_shown, values), **shown)


def join(parts: Iterable[object], separator: str = "") -> Markup:
    """Join the parts, each escaped, with `separator` (HTML) between them."""
    return Markup(separator).join(map(_shown, parts))


def _shown(value: object) -> str:
    """Turn `value` into text without characters that no page can show; `Markup` stays as it is."""
    return value if isinstance(value, Markup) else printable(str(value))


def bdi(text: str) -> Markup:
    """Isolate a name given by a user, so that right-to-left letters in it do not reorder what
    stands around it."""
    return fill("<bdi>{}</bdi>", text)


def breakable(identifier: str) -> Markup:
    """Allow an identifier to be wrapped after its underscores."""
    return join(identifier.split("_"), "_<wbr>")


def percent(share: float | None, digits: int = 1) -> str:
    """Print a share: 0.974 -> '97.4 %', None -> a dash."""
    return "–" if share is None else f"{100 * share:.{digits}f}\u00a0%"


def duration(seconds: float) -> str:
    """Print a time: 127.3 -> '2 min 7 s'."""
    hours, rest = divmod(round(seconds), 3600)
    shown = []
    # no-break spaces keep a number and its unit on one line
    for value, unit in ((hours, "h"), (rest // 60, "min"), (rest % 60, "s")):
        if value:
            shown.append(f"{value}\u00a0{unit}")
    # beside hours the seconds tell nothing
    return " ".join(shown[:2]) or f"{seconds:.1f}\u00a0s"


def file_size(size: int) -> str:
    """Print a size: 1,234,567 bytes -> '1.2 MB'."""
    for scale, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= scale:
            return f"{size / scale:.1f}\u00a0{unit}"
    return f"{size}\u00a0bytes"


def table_html(
    columns: Mapping[str, str], rows: Iterable[Sequence[object]], *, css: str = ""
) -> Markup:
    """Build a table. `columns`: heading -> CSS class of its cells (`num` is right-aligned), '' for
    none."""
    classes = list(columns.values())
    # the div scrolls by itself, so that a wide table does not make the page scroll on a phone
    lines = [_line("td", row, classes) for row in rows]
    return fill(
        '<div class="scroll"><table class="{}"><thead>{}</thead><tbody>\n{}</tbody></table></div>',
        css,
        _line("th", list(columns), classes),
        join(lines),
    )


def _line(tag: str, cells: Sequence[object], classes: Sequence[str]) -> Markup:
    """Build a line of a table; `classes` are the CSS classes of its first cells."""
    filled = []
    for cell, css in zip_longest(cells, classes, fillvalue=""):
        begin = fill('<{} class="{}">', tag, css) if css else fill("<{}>", tag)
        filled.append(fill("{}{}</{}>", begin, cell, tag))
    return fill("<tr>{}</tr>\n", join(filled))


def meter(share: float | None, shown: str) -> Markup:
    """Show a number over a bar of its share."""
    return fill(
        '<span class="meter" style="--share:{}%">{}</span>', f"{100 * (share or 0):.1f}", shown
    )


def image(drawing: Drawing, style: str = "") -> Markup:
    """Embed a figure; a sentence takes its place if it could not be drawn."""
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


def panels(drawings: Iterable[Drawing]) -> Markup:
    """Place figures beside each other, as many as there is room for."""
    return fill('<div class="panels">{}</div>', join(map(image, drawings)))


def beside(drawing: Drawing, text: Markup) -> Markup:
    """Place text beside a figure; below it where there is no room."""
    return fill(
        '<div class="beside figure"><div class="plot">{}</div><div class="grow">{}</div></div>',
        image(drawing),
        text,
    )


def section(key: str, title: str, *parts: object) -> Markup:
    """Build a section with a heading; `#key` leads to it."""
    return fill('<section id="{}"><h2>{}</h2>\n{}</section>\n', key, title, join(parts))


def part(title: str, *parts: object) -> Markup:
    """Build a part of a section with its own heading."""
    return fill('<div class="part"><h3>{}</h3>\n{}</div>\n', title, join(parts))


def soft(template: str, *values: object) -> Markup:
    """Write a paragraph of explanation, filled as by `fill`."""
    return fill('<p class="soft prose">{}</p>', fill(template, *values))


def notice(text: object) -> Markup:
    """Write a paragraph that a reader must not overlook."""
    return fill('<p class="notice">{}</p>', text)


def facts(items: Iterable[tuple[object, object, object]]) -> Markup:
    """Show numbers with what they are: (title, value, small print); those without a title are left
    out."""
    tiles = []
    for title, value, small in items:
        if title:
            print_below = fill("<small>{}</small>", small) if small else ""
            tiles.append(fill("<div><dt>{}</dt><dd>{}{}</dd></div>", title, value, print_below))
    return fill('<dl class="tiles">{}</dl>', join(tiles))


def strong(text: str, yes: bool) -> Markup:
    """Set text bold if `yes`."""
    return fill("<b>{}</b>", text) if yes else fill("{}", text)


def interval_bar(
    low: float, value: float, high: float, *, floor: float, mark: float | None = None
) -> Markup:
    """Draw a share and its interval on the scale from `floor` to 1; `mark` is a share to compare
    with."""

    def place(share: float) -> float:
        """Give the place of a share on the scale, in percent of its width."""
        return 100 * (share - floor) / (1 - floor)

    left, middle, right = place(low), place(value), place(high)
    marked = Markup("")
    if mark is not None:
        marked = fill('<u style="left:{}%"></u>', f"{place(mark):.1f}")
    return fill(
        '<span class="range"><i style="left:{}%;width:{}%"></i>{}<b style="left:{}%"></b></span>',
        f"{left:.1f}",
        f"{right - left:.1f}",
        marked,
        f"{middle:.1f}",
    )


def interval_text(interval: Sequence[float]) -> str:
    """Print an interval: (0.861, 0.912) -> '86.1 – 91.2'."""
    low, high = interval
    return f"{100 * low:.1f} – {100 * high:.1f}"


def plural(count: int, noun: str) -> str:
    """Count a noun: 1, 'picture' -> '1 picture'; 1200, 'picture' -> '1,200 pictures'."""
    return f"1 {noun}" if count == 1 else f"{count:,} {noun}s"


def details(summary: str, content: object) -> Markup:
    """Fold content away until the summary is clicked."""
    return fill("<details><summary>{}</summary>{}</details>", summary, content)


def document(title: str, body: Markup) -> str:
    """Build the whole page."""
    # style-src: the page's own style sheet, and lengths in style attributes
    # img-src: figures and thumbnails are embedded as data
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    # the empty icon keeps browsers from asking for /favicon.ico
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
        policy=Markup(policy),
        title=title,
        style=Markup(STYLE),
        body=body,
    )
