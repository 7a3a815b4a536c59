"""Text from outside (names, keys, licences, answers of a server) where something else would read
more than text in it.

    printable      a terminal, a log, an answer     control characters become visible escapes, such
                   as \\x1b
    csv_cell       a spreadsheet                    a cell that would run gets an apostrophe;
                   `plain_cell` takes it away
    plain, code    Markdown                         running text, and a name as inline code
    shell          bash                             one word on one line, whatever it is

Standard library only, so that everything can use it.
"""

import os
import re
import shlex
from typing import Any

HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but tab and newline, DEL, C1: a terminal acts on them
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u206a-\u206f"  # they reorder what is shown
    "\u2028\u2029"  # line and paragraph separators: a log viewer begins a line
    "\U000e0000-\U000e007f\ufff9-\ufffb"  # tags and interlinear marks: text that is not shown
    "\ud800-\udfff]"
)  # bytes of file names that are no text: no output can take them
"""What is not text to a terminal, or is shown as something else than it is."""
RUNS = "=+\\-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u2212"
"""Beginnings of a cell that a spreadsheet takes for a formula, also in full-width and small
forms."""
IGNORED = "'\" \xa0\u3000\x00\x0b\x0c\u200b-\u200f\u2060\ufeff"
"""What may stand before them: blanks, characters without width, and our own apostrophe."""
CELL = (f"(?=[{IGNORED}]*[{RUNS}\t\r\n])", f"(?=[{IGNORED}]*[{RUNS}])")
"""The beginning of a text that runs, and of one inside it: with other settings of the spreadsheet,
a semicolon, a tab or a line break inside a text begins another cell."""
RUNNABLE = re.compile(f"\\A{CELL[0]}|(?<=[;\t\r\n]){CELL[1]}")
ESCAPED = re.compile(f"\\A'{CELL[0]}|(?<=[;\t\r\n])'{CELL[1]}")
NUMBER = re.compile(r"[-+]?\d{1,30}(\.\d{1,30})?(e[-+]?\d{1,3})?", re.ASCII)
"""A number written out, which is one to a spreadsheet too."""


def printable(text: object) -> str:
    """`text` with a visible escape (`\\x1b`, `\\u202e`) for each control character, newline and tab
    apart.

    Also for what reverses text, for line separators and for lone surrogates (bytes of a file name
    that are no text). What `printable` gave, it leaves as it is.
    """
    return HIDDEN.sub(_escape, str(text))


def one_line(text: object) -> str:
    """`printable`, with newline and tab escaped too: a name in a message must not begin a line of
    its own."""
    # after the others: `printable` leaves these two as they are
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


# ---------------------------------------------------------------- CSV


def csv_cell(value: Any) -> Any:
    """A cell as it is written: text that a spreadsheet would run gets an apostrophe before it;
    numbers stay numbers."""
    if isinstance(value, str) and not NUMBER.fullmatch(value):
        # inside a text as well: with a semicolon as separator, the rest would be a cell of its own
        return RUNNABLE.sub("'", value)
    return value


def plain_cell(text: str) -> str:
    """The text that `csv_cell` was given."""
    return ESCAPED.sub("", text)


# ---------------------------------------------------------------- Markdown


def code(name: object) -> str:
    """A name as inline code that no backtick, pipe or line break in it can end."""
    # inline code knows no escapes, so that a backtick becomes another mark
    cleaned = " ".join(printable(name).split()).replace("`", "'").replace("|", "\\|")
    return f"`{cleaned}`" if cleaned else "(empty)"


def plain(words: object) -> str:
    """Running text in which nothing is Markdown or HTML, and no address becomes a link."""
    escaped = (
        " ".join(printable(words).split())
        .replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
    )
    escaped = re.sub(r"([\\`*\[\]|~!$]|(?<!\w)_|_(?!\w))", r"\\\1", escaped)
    # a heading, list, rule, or the underline of a heading
    escaped = re.sub(r"^([#+=-]|\d+(?=[.)](?:\s|$)))", _begins_nothing, escaped)
    # a space without width breaks the address, and nobody sees it
    return re.sub(r"(?i)(https?|ftp|mailto|www|xmpp)([:.])", r"\1&#8203;\2", escaped)


def _begins_nothing(match: re.Match[str]) -> str:
    """The beginning of a paragraph that would be a heading, a list or a rule."""
    return f"{match[0]}&#8203;" if match[0].isdigit() else f"\\{match[0]}"


# ---------------------------------------------------------------- bash


def shell(word: object) -> str:
    """One word of a bash command on one line; what is not printable stands as `$'\\x1b'`."""
    text = str(word)
    # quoted text may hold line breaks, but a command in a message has to be copied as one line
    if one_line(text) == text:
        return shlex.quote(text)
    return f"$'{''.join(map(_quoted, _octets(text)))}'"


def _quoted(octet: int) -> str:
    """A byte as it stands in `$'...'` of bash."""
    if 0x20 <= octet < 0x7F and chr(octet) not in "\\'!":
        return chr(octet)
    return f"\\x{octet:02x}"


def shell_path(path: object) -> str:
    """A file or folder as one word of a bash command; one that begins with a dash is no option."""
    text = str(path)
    return shell(f"./{text}" if text.startswith("-") else text)


def _octets(text: str) -> bytes:
    """A file name as the system has it; surrogates that no file name gives become `?`."""
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")
