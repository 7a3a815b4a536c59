"""The files of one push while they are collected, each without what must not leave this machine."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.contract import rundir
from zoo.files import strict_json
from zoo.files.folders import read_bytes
from zoo.network import tensor_file
from zoo.publish.onnx_notes import write_without_notes
from zoo.publish.private import Private

LARGEST_TEXT = 100_000_000
"""Bytes of a text file, such as metrics.jsonl."""


class Stage:
    """Files that will be sent, and a folder for those that are made for it; final."""

    def __init__(self, into: Path, private: Private):
        self.into, self.private, self.files = into, private, dict[str, Path]()

    def write(self, name: str, content: Any) -> None:
        """A JSON file made for the repository."""
        self.files[name] = self._place(name)
        rundir.write_json(self.files[name], content)

    def json(self, name: str, content: Any, own: Path) -> None:
        """A JSON file without what is private; the run's own if there is nothing to change."""
        kept = self.private.cut_json(content)
        # the run's own bytes where nothing changes, so that digests agree
        if kept == rundir.read_json(own):
            self.files[name] = own
        else:
            self.write(name, kept)

    def text(self, name: str, own: Path) -> None:
        """A text file without what is private, line by line; lines of JSON value by value."""
        cut = self._json_line if name.endswith(".jsonl") else self.private.cut
        lines = read_bytes(own, LARGEST_TEXT).decode("utf-8").splitlines(keepends=True)
        kept = list(map(cut, lines))
        if kept == lines:
            self.files[name] = own
            return
        self.files[name] = self._place(name)
        rundir.write_text(self.files[name], "".join(kept))

    def _json_line(self, line: str) -> str:
        """A line of JSON without what is private; as text if it is none."""
        if not line.strip():
            return line
        try:
            content = strict_json.parse(line.encode(), finite=False)
        except ValueError:
            return self.private.cut(line)
        kept = self.private.cut_json(content)
        # the very line where nothing is private
        return line if kept == content else json.dumps(kept) + "\n"

    def tensors(self, name: str, own: Path) -> None:
        """A safetensors file without what is private in its header's notes."""
        self.files[name] = own
        # before its header is read whole
        tensor_file.check_header(own)
        with open(own, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
            notes = header.get("__metadata__", {})
            kept = self.private.cut_json(notes)
            if kept == notes:
                return
            written = json.dumps(header | {"__metadata__": kept}, ensure_ascii=False).encode()
            written += b" " * (-len(written) % 8)  # the data that follow stay aligned
            self.files[name] = self._place(name)
            with open(self.files[name], "wb") as copy:
                copy.write(len(written).to_bytes(8, "little") + written)
                shutil.copyfileobj(file, copy)

    def picture(self, name: str, content: bytes) -> None:
        """An encoded picture."""
        self.files[name] = self._place(name)
        self.files[name].write_bytes(content)

    def onnx(self, name: str, own: Path) -> None:
        """An ONNX file without the exporter's notes and what is private in the description."""
        self.files[name] = self._place(name)
        write_without_notes(own, self.files[name], self.private)

    def _place(self, name: str) -> Path:
        path = self.into / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def manifest(
        self, name: str, version: int, files: Mapping[str, Path], also: Mapping[str, str]
    ) -> None:
        """`FINISHED.json` over these files, with names relative to its own folder."""
        # names in a bundle's list begin at its own folder
        start = len(name) - len(rundir.FINISHED)
        digests = {other[start:]: rundir.digest(files[other]) for other in sorted(files)}
        self.write(name, {"version": version, **also, "files": digests})
