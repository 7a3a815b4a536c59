"""An ONNX file without what torch's exporter noted in it, for what leaves this machine."""

import json
from pathlib import Path
from typing import Any

from zoo.files import strict_json
from zoo.host import minimum
from zoo.host.errors import UserError
from zoo.publish.private import Private


def write_without_notes(own: Path, copy: Path, private: Private) -> None:
    """Copy an ONNX file without what torch's exporter noted at each node: lines of source code,
    with their paths.

    The graph and its weights stay as they are; of the description in its metadata, what is private
    is cut. Raises `UserError` for a model whose weights lie in another file: that file could be
    anything.
    """
    import onnx
    from google.protobuf.message import DecodeError

    minimum.require("onnx", "protobuf")
    try:
        # without: a stranger's file may name any file of this machine as its weights
        model = onnx.load(own, load_external_data=False)
    except DecodeError:
        raise UserError(f"{own} is not an ONNX file: export the run again.") from None
    if _outside(model.graph):
        raise UserError(
            f"{own} has weights in another file, so nothing was sent: export the run again."
        )
    model.ClearField("doc_string")
    for note in model.metadata_props:
        note.value = _described(note.value, private)
    # functions have nodes of their own
    for part in (model.graph, *model.functions):
        _forget_notes(part)
    onnx.save(model, copy)


def _described(text: str, private: Private) -> str:
    """A description in a model file; JSON value by value."""
    try:
        content = strict_json.parse(text.encode(), finite=False)
    except ValueError:
        return private.cut(text)
    kept = private.cut_json(content)
    # the very text where nothing is private
    return text if kept == content else json.dumps(kept, ensure_ascii=False)


def _outside(graph: Any) -> bool:
    """Whether a graph, or one inside it, has a tensor whose values lie in another file."""
    tensors = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            # Loop and If hold graphs as attributes
            if any(map(_outside, _graphs_inside(attribute))):
                return True
            tensors += attribute.tensors
            if attribute.HasField("t"):
                tensors.append(attribute.t)
    return any(tensor.data_location == tensor.EXTERNAL for tensor in tensors)


def _graphs_inside(attribute: Any) -> list[Any]:
    graphs = list(attribute.graphs)
    if attribute.HasField("g"):
        graphs.append(attribute.g)
    return graphs


def _forget_notes(part: Any) -> None:
    """Clear the notes of a graph or a function, and of the graphs inside it."""
    noted = [part, *part.node, *part.value_info, *getattr(part, "initializer", ())]
    for value in (*part.input, *part.output):
        if not isinstance(value, str):  # those of a function are names
            noted.append(value)
    for element in noted:
        element.ClearField("metadata_props")
        element.ClearField("doc_string")
    for node in part.node:
        for attribute in node.attribute:
            attribute.ClearField("doc_string")
            for inner in _graphs_inside(attribute):
                _forget_notes(inner)
