"""What a run's own files say of its pictures and folders by name is cut from the files that leave
this machine."""

import re
from typing import Any

from zoo.contract import rundir
from zoo.contract.figures import without
from zoo.publish.private import PICTURE

BESIDE = re.compile(
    r"\A((?:--data \d+: )?folders beside train, val and test are ignored): .*\Z", re.DOTALL
)
"""A finding that names folders which are no classes."""
NAMED = re.compile(
    r"(?:[^\s:;,()/]{1,255}(?:/[^:;()/\n]{0,255}?){1,16}|[^\s:;,()/]{1,255}?)"
    r"\.(?:jpe?g|png|webp|bmp|gif|tiff?)\b",
    re.IGNORECASE,
)
"""What looks like a picture's path or name in a finding, though no list of the run has it."""


def without_pictures_of_run(name: str, content: Any) -> Any:
    """A JSON file of a run without maps of pictures, the list of those left out, and folders beside
    the data."""
    if name == rundir.CONFIG:
        # timm takes the number of classes from the top level; a second one breaks transformers'
        # TimmWrapper
        arguments = without(content.get("model_args", {}), "num_classes")
        if not arguments:
            return without(content, "model_args")
        return content | {"model_args": arguments}
    if name == rundir.REPORT:
        return without(content, "heatmaps")
    if name == rundir.DATA:
        # whole paths first: a folder may have blanks in its name
        paths = sorted((path for path, _ in content.get("left_out", ())), key=len, reverse=True)
        findings = []
        for finding in content.get("findings", ()):
            for path in paths:
                finding = finding.replace(path, PICTURE)
            findings.append(_without_picture_names(finding))
        return content | {"left_out": [], "findings": findings}
    return content


def _without_picture_names(finding: str) -> str:
    return NAMED.sub(PICTURE, BESIDE.sub(r"\1", finding))


def without_names(line: str) -> str:
    """A line of a run's own card; one of its lists, where findings stand, without names of pictures
    and folders."""
    item, text = line[:2], line[2:].rstrip("\n")
    if item != "- ":
        return line
    return item + _without_picture_names(text) + line[2 + len(text) :]
