"""What of this machine and its people stays here when a run is published: folders, names of
pictures, tokens.

    Private.of_run(run)      what this run's files and this machine know
    private.cut(text)        the text without them
    private.cut_json(value)  the same for each text and key of a JSON value; class names stay
    private.refuse(files)    `UserError` if one of the files holds a token, or still one of the
                             folders

Known folders are cut literally, in each form in which a program may have written them; then what
looks like an absolute path. More is cut rather than less: of a text with a path, words up to its
last separator may go too.
"""

import getpass
import mmap
import os
import re
import socket
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from zoo.contract import run_pictures, rundir
from zoo.files import tables
from zoo.host.errors import UserError
from zoo.publish import private_patterns as patterns

PICTURE = "a picture"
"""Stands for the name of a picture."""
LEAST = 5
"""Characters of a folder from which on it is cut wherever it stands; /tmp is cut as a path."""
PATHS_IN = (rundir.LOCAL, rundir.RECIPE, rundir.REPORT, rundir.DATA)
"""Files of a run that may record folders of the machine where it was trained."""


@dataclass(frozen=True)
class Private:
    """What must not leave, as it was found when a push began."""

    roots: tuple[str, ...]
    """Folders, as they are written on the machine where they are."""
    people: tuple[str, ...]
    """Login name and name of the machine: cut where they are parts of a path."""
    pictures: frozenset[str]
    """Paths and file names of the run's pictures."""
    classes: frozenset[str]
    """Class names: they are published, whatever they are."""

    @staticmethod
    def of_run(run: Path) -> "Private":
        """What the files of a run, the environment and the system say."""
        data = rundir.read_json(run / rundir.DATA)
        pictures = set()
        for path in _picture_paths(run, data):
            for name in (path, path.rpartition("/")[2]):
                if re.search(r"[./].", name):
                    pictures.add(name)
        return Private(
            _roots(run, *_recorded(run)),
            tuple(_people()),
            frozenset(pictures),
            frozenset(map(str, data["classes"])),
        )

    @staticmethod
    def of_folder(folder: Path, classes: Iterable[str]) -> "Private":
        """What the environment and the system say, for a bundle without its run."""
        return Private(_roots(folder), tuple(_people()), frozenset(), frozenset(classes))

    def cut(self, text: str) -> str:
        """`text` without folders of a machine and names of pictures; their last part may stay."""
        # a class may be called like a folder or a picture
        if text in self.classes:
            return text
        # pictures first: without its folder, the rest of a path would be no known name any more
        text = patterns.literal(self.roots).sub("", self._without_pictures(text))
        pieces, place = [], 0
        # between the addresses only: the path of one looks like a folder
        for address in patterns.WEB.finditer(text):
            pieces += [
                self._without_paths(text[place : address.start()]),
                patterns.USERINFO.sub("", address[0]),
            ]
            place = address.end()
        return "".join([*pieces, self._without_paths(text[place:])])

    def cut_json(self, content: Any) -> Any:
        """The same JSON value, each text and key cut; class names stay."""
        if isinstance(content, dict):
            return {self.cut(key): self.cut_json(value) for key, value in content.items()}
        if isinstance(content, list):
            return [self.cut_json(value) for value in content]
        if isinstance(content, str):
            return self.cut(content)
        return content

    def _without_paths(self, text: str) -> str:
        for pattern in (
            patterns.HOMES,
            patterns.TILDE,
            patterns.SERVERS,
            patterns.parts(self.people),
            patterns.ABSOLUTE,
        ):
            text = pattern.sub("", text)
        return text

    def _without_pictures(self, text: str) -> str:
        """Every path and name of a picture replaced, the longest that ends at each place."""
        pieces, place = [], 0
        for match in self._endings.finditer(text):
            end = match.end()
            # from the front, so that the longest name is taken
            for start in range(max(place, end - self._longest), end):
                if (
                    text[start:end] in self.pictures
                    # not the end of a longer word
                    and not text[max(place, start - 1) : start].isalnum()
                ):
                    pieces += [text[place:start], PICTURE]
                    place = end
                    break
        return "".join([*pieces, text[place:]])

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self.pictures), default=0)

    @cached_property
    def _endings(self) -> re.Pattern[str]:
        return patterns.endings(self.pictures)

    def refuse(self, files: Mapping[str, Path]) -> None:
        """`UserError` if a file holds what looks like a token, the token in use, or still one of
        the folders."""
        own = _own_token()
        folders = patterns.below(self.roots)
        for name, path in files.items():
            with _mapped(path) as content:
                # in the bytes of every file: a token may stand in a tensor's name
                if patterns.TOKENS.search(content) or (own and content.find(own) >= 0):
                    raise UserError(
                        f"{name} holds what looks like an access token: expected none, and nothing "
                        "was sent. Remove it where it came from (a class, a folder or a setting of "
                        "the run), revoke it (the Hub's: https://huggingface.co/settings/tokens), "
                        "and train again."
                    )
                if folders.search(content):
                    raise UserError(
                        f"{name} still names a folder of this machine where a push cannot cut it "
                        "(a class, a node or a tensor has its name): nothing was sent. Rename that "
                        "and train again."
                    )


def _picture_paths(run: Path, data: Mapping[str, Any]) -> Iterator[str]:
    """The paths of all pictures that a run's files name, below the folder of the data."""
    if (run / rundir.FILES).is_file():
        yield from map(itemgetter("path"), run_pictures.read_files(run))
    for path, _ in data.get("left_out", ()):
        yield path
    if (run / rundir.LEFT_OUT).is_file():
        yield from map(itemgetter("path"), tables.rows(run / rundir.LEFT_OUT, ("path",)))


def _roots(folder: Path, *recorded: str) -> tuple[str, ...]:
    """The folders to cut, the longest first: this machine's, the published folder with the one
    above it, and the `recorded` ones."""
    # links are resolved as well: a program may have written either
    found = {
        *_of_machine(),
        *recorded,
        *_spellings(folder.absolute()),
        *_spellings(folder.absolute().parent),
    }
    return tuple(sorted(filter(_long_enough, found), key=len, reverse=True))


def _long_enough(root: str) -> bool:
    return len(root) >= LEAST and root.strip("/\\") != ""


def _of_machine() -> Iterator[str]:
    for name in ("HOME", "USERPROFILE", "HF_HOME", "ZOOTUNE_HOME", "TMPDIR", "VIRTUAL_ENV"):
        if value := os.environ.get(name):
            yield from _spellings(Path(value))
    for path in (Path.home(), Path.cwd(), Path(tempfile.gettempdir())):
        yield from _spellings(path)


def _spellings(path: Path) -> Iterator[str]:
    yield str(path)
    yield str(path.resolve())


def _recorded(run: Path) -> Iterator[str]:
    """The absolute paths that stand alone as a value in the run's files, and the folders in which
    they lie."""
    for name in PATHS_IN:
        if (run / name).is_file():
            for text in _texts(rundir.read_json(run / name)):
                if re.match(r"(?:/|[A-Za-z]:[\\/]|\\\\)[^\n]{1,500}\Z", text):
                    yield from _above(text)


def _texts(content: Any) -> Iterator[str]:
    """Every text of a JSON value that is not a key."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        yield from chain.from_iterable(map(_texts, content.values()))
    elif isinstance(content, list):
        yield from chain.from_iterable(map(_texts, content))


def _above(path: str) -> Iterator[str]:
    """The folder of a path, and those above it that are deep enough to tell of somebody: the last
    part may stay."""
    separators = re.finditer(r"[\\/]", path.rstrip("/\\"))
    # from the third on: `/home` tells nothing, `/home/bob` does
    for separator in islice(separators, 2, None):
        yield path[: separator.start()]


def _people() -> Iterator[str]:
    # the list of users may lack this one, as in a container
    with suppress(OSError, KeyError, ImportError):
        yield getpass.getuser()
    yield socket.gethostname()
    yield socket.gethostname().partition(".")[0]


def _own_token() -> bytes | None:
    """The token with which a push is about to be done."""
    from huggingface_hub import get_token

    token = get_token()
    # a shorter one would be found everywhere
    if token and len(token) >= 8:
        return token.encode()
    return None


@contextmanager
def _mapped(path: Path) -> Iterator[Any]:
    """The bytes of a file for a search, without reading it into memory."""
    with open(path, "rb") as file:
        # an empty file cannot be mapped
        if not os.fstat(file.fileno()).st_size:
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield content
