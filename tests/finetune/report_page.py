"""A report as tests read it: its page without tags, and the texts of its figures."""

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from finetune.report.write import write_report
from tests.made_run import drawing_only, made_run
from zoo.contract import rundir


def written(run: Path, root: Path, *drawn: str) -> str:
    """The page of a run, of whose figures only these are drawn."""
    with drawing_only(*drawn):
        write_report(run, root)
    return (run / rundir.PAGE).read_text(encoding="utf-8")


def page_of(folder: Path, *drawn: str, **how: Any) -> tuple[Path, str]:
    """(run folder, its page) of a made-up run, of whose figures only these are drawn."""
    run, root = made_run(folder, **how)
    return run, written(run, root, *drawn)


class Seen(HTMLParser):
    """Tags with attributes, and the page's text without tags."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page.replace(re.search(r"<style>.*?</style>", page, re.S)[0], "", 1))  # type: ignore[index]
        self.text = " ".join(" ".join(self.words).replace("\u00a0", " ").split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def after(self, heading: str) -> str:
        """The text after a heading."""
        return self.text.split(heading, 1)[1]


def svg_texts(path: Path) -> list[str]:
    return [
        "".join(node.itertext()) for node in ET.parse(path).iter("{http://www.w3.org/2000/svg}text")
    ]
