"""The description that a model file has in its own metadata, so that the file alone can be told
from another: the main part of bundle.json."""

import json
from collections.abc import Mapping
from typing import Any

from zoo.contract.bundle import Bundle
from zoo.files import strict_json

METADATA = "zoo"
"""Key of the description in the file's metadata."""
_DESCRIBED = ("labels", "preprocessing", "decision", "outputs", "run")


def metadata(content: Mapping[str, Any]) -> dict[str, str]:
    """What goes into the metadata of the ONNX file, from what `bundle.write_description` takes as
    `content`."""
    described = {key: content[key] for key in _DESCRIBED}
    # no NaN, which is no JSON and would be refused by every reader
    return {METADATA: json.dumps(described, ensure_ascii=False, allow_nan=False)}


def differences(bundle: Bundle, described: str) -> list[str]:
    """The keys under which the description inside a model file differs from that of its bundle."""
    try:
        content = strict_json.parse(described.encode("utf-8", "surrogatepass"))
    except ValueError:
        return list(_DESCRIBED)
    if not isinstance(content, dict):
        return list(_DESCRIBED)
    return [key for key in _DESCRIBED if content.get(key) != bundle.content[key]]
