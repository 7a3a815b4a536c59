"""What a run's own files say of its pictures and folders by name is cut from the files that leave
this machine."""

import re
from typing import Any

from zoo.contract import rundir
from zoo.publish.private import PICTURE

BESIDE = re.compile(r"\A(folders beside train, val and test are ignored): .*\Z", re.DOTALL)
"""A finding that names folders which are no classes."""
NAMED = re.compile(
    r"(?:[^\s:;,()/]{1,255}/[^:;()/\n]{0,255}?|[^\s:;,()/]{1,255}?)\.(?:jpe?g|png|webp|bmp|gif|tiff?)\b",
    re.IGNORECASE,
)
"""What looks like a picture's path or name in a finding, though no list of the run has it."""


def without_pictures_of_run(name: str, content: Any) -> Any:
    """A JSON file of a run without maps of pictures, the list of those left out, and folders beside
    the data."""
    # timm takes it from the top level; a second one breaks transformers' TimmWrapper
    if name == rundir.CONFIG:
        content = content | {
            "model_args": {
                key: value
                for key, value in content.get("model_args", {}).items()
                if key != "num_classes"
            }
        }
        content = (
            content
            if content["model_args"]
            else {k: v for k, v in content.items() if k != "model_args"}
        )
    elif name == rundir.REPORT:
        content = {key: value for key, value in content.items() if key != "heatmaps"}
    elif name == rundir.DATA:
        findings = [
            NAMED.sub(PICTURE, BESIDE.sub(r"\1", text)) for text in content.get("findings", ())
        ]
        content = content | {"left_out": [], "findings": findings}
    return content


def without_names(line: str) -> str:
    """A line of a run's own card; one of its lists, where findings stand, without names of pictures
    and folders."""
    item, text = line[:2], line[2:].rstrip("\n")
    if item != "- ":
        return line
    return item + NAMED.sub(PICTURE, BESIDE.sub(r"\1", text)) + line[2 + len(text) :]
