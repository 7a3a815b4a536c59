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
import html
import json
import mmap
import os
import re
import socket
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from zoo.contract import run_pictures, rundir
from zoo.files import tables
from zoo.host.errors import UserError

PICTURE = "a picture"
"""Stands for the name of a picture."""
LEAST = 5
"""Characters of a folder from which on it is cut wherever it stands; /tmp is cut as a path."""
SEPARATOR = r"(?:[\\/]|%2[fF]|%5[cC])"
RUN = rf"{SEPARATOR}{{1,8}}"
PART = r"""[^\s"'<>|:,;/\\][^"'<>|:,;/\\\n]{0,255}?"""
"""One folder of a path; blanks may stand in it."""
HOMES = re.compile(
    rf"(?:[\w.-]{{1,64}}:)?(?:[A-Za-z]:)?{RUN}(?:home|users|Documents and "
    rf"Settings|export/home|var/home){RUN}"
    rf"""(?:[^"'<>|:,;/\\\n%]|%(?!2[fF]|5[cC])){{1,255}}(?:{RUN}(?:{PART}{RUN})*|(?=["'<>|:,;\n])|\Z)""",
    re.IGNORECASE,
)
"""Somebody's home, also where nothing follows it: the last part is a person's name."""
TILDE = re.compile(r"(?<![\w/.~])~[A-Za-z_][\w.-]{0,64}[\\/]")
"""`~bob/`."""
SERVERS = re.compile(
    rf"(?<![\w.+-])(?!https?:)[a-z][a-z0-9+.-]{{1,20}}:/{{2,3}}(?:{PART}/)+"
    rf"|(?<![\w/.-])[\w.-]{{1,64}}@[\w.-]{{1,64}}:(?:{PART}/)*",
    re.IGNORECASE,
)
"""`smb://nas/share/`, `file:///srv/x/`, `bob@nas:/volume/`."""
WEB = re.compile(r"""https?://[^\s"'<>]+""")
"""Addresses of the web stay, but for a name and a password in them."""
USERINFO = re.compile(r"(?<=://)[^\s/@]{1,200}@")
ABSOLUTE = re.compile(
    rf"(?<![\w/.<])(?:[A-Za-z]:{RUN}|~?/(?!/)|(?<![:-]){SEPARATOR}{{2}})(?:{PART}{RUN})+",
    re.IGNORECASE,
)
"""The folders of an absolute path, in running text."""
TOKENS = re.compile(
    rb"(?<![A-Za-z0-9])(?:hf_(?:[a-z]{2,8}_)?[A-Za-z0-9]{20}|hf_oauth_[\w.-]{20}|api_(?:org_)?[A-Za-z0-9]{20}"
    rb"|gh[pousr]_[A-Za-z0-9]{30}|github_pat_\w{30}|glpat-[\w-]{20}|AKIA[A-Z0-9]{16}|xox[abprs]-[\w-]{20}|sk-[A-Za-z0-9_-]{32}"
    rb"|-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----)"
)
"""Access tokens of the Hub, those of other services that are known by their beginning, and private
keys."""
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
        names = (
            [row["path"] for row in run_pictures.read_files(run)]
            if (run / rundir.FILES).is_file()
            else []
        )
        names += [path for path, _ in data.get("left_out", ())]
        if (run / rundir.LEFT_OUT).is_file():
            names += [row["path"] for row in tables.rows(run / rundir.LEFT_OUT, ("path",))]
        pictures = {
            name
            for path in names
            for name in (path, path.rpartition("/")[2])
            if re.search(r"[./].", name)
        }
        found = {
            *_of_machine(),
            *_recorded(run),
            *_spellings(run.absolute()),
            *_spellings(run.absolute().parent),
        }
        roots = sorted((root for root in found if _long_enough(root)), key=len, reverse=True)
        return Private(
            tuple(roots),
            tuple(_people()),
            frozenset(pictures),
            frozenset(map(str, data["classes"])),
        )

    @staticmethod
    def of_folder(folder: Path, classes: Iterable[str]) -> "Private":
        """What the environment and the system say, for a bundle without its run."""
        found = {
            *_of_machine(),
            *_spellings(folder.absolute()),
            *_spellings(folder.absolute().parent),
        }
        roots = sorted((root for root in found if _long_enough(root)), key=len, reverse=True)
        return Private(tuple(roots), tuple(_people()), frozenset(), frozenset(classes))

    def cut(self, text: str) -> str:
        """`text` without folders of a machine and names of pictures; their last part may stay."""
        if text in self.classes:
            return text
        text = _literal(self.roots).sub("", self._without_pictures(text))
        pieces, place = [], 0
        for address in WEB.finditer(text):
            pieces += [
                self._without_paths(text[place : address.start()]),
                USERINFO.sub("", address[0]),
            ]
            place = address.end()
        return "".join([*pieces, self._without_paths(text[place:])])

    def cut_json(self, content: Any) -> Any:
        """The same JSON value, each text and key cut; class names stay."""
        if isinstance(content, dict):
            return {self.cut(key): self.cut_json(value) for key, value in content.items()}
        if isinstance(content, list):
            return [self.cut_json(value) for value in content]
        return self.cut(content) if isinstance(content, str) else content

    def _without_paths(self, text: str) -> str:
        for pattern in (HOMES, TILDE, SERVERS, _parts(self.people), ABSOLUTE):
            text = pattern.sub("", text)
        return text

    def _without_pictures(self, text: str) -> str:
        """Every path and name of a picture replaced, the longest that ends at each place."""
        pieces, place = [], 0
        for match in self._endings.finditer(text):
            end = match.end()
            for start in range(max(place, end - self._longest), end):
                if (
                    text[start:end] in self.pictures
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
        """What may be the end of a picture's name."""
        endings = {os.path.splitext(name)[1] or name[-3:] for name in self.pictures}
        if len(endings) > 200:
            return re.compile(r".(?!\w)", re.DOTALL)
        return re.compile(
            "|".join(map(re.escape, sorted(endings, key=len, reverse=True))) or "(?!)"
        )

    def refuse(self, files: Mapping[str, Path]) -> None:
        """`UserError` if a file holds what looks like a token, the token in use, or still one of
        the folders."""
        own = _own_token()
        folders = re.compile(
            b"|".join(
                re.escape(root.encode("utf-8", "surrogateescape")) + rb"(?!\w)"
                for root in self.roots
                if _depth(root) > 1
            )
            or rb"(?!)"
        )
        for name, path in files.items():
            with _mapped(path) as content:
                if TOKENS.search(content) or (own and content.find(own) >= 0):
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
    values = (
        content.values()
        if isinstance(content, dict)
        else content
        if isinstance(content, list)
        else ()
    )
    if isinstance(content, str):
        yield content
    for value in values:
        yield from _texts(value)


def _above(path: str) -> Iterator[str]:
    """The folder of a path, and those above it that are deep enough to tell of somebody: the last
    part may stay."""
    parts = [match.start() for match in re.finditer(r"[\\/]", path.rstrip("/\\"))]
    yield from (path[:place] for place in parts[2:])


def _people() -> Iterator[str]:
    # the list of users may lack this one, as in a container
    with suppress(OSError, KeyError, ImportError):
        yield getpass.getuser()
    yield socket.gethostname()
    yield socket.gethostname().partition(".")[0]


def _forms(word: str) -> set[str]:
    """How a program may write a folder: slashes of either system, quoted for an address, JSON, XML,
    in either Unicode form."""
    whole = {unicodedata.normalize(form, word) for form in ("NFC", "NFD")} | {word}
    slashes = (
        {one.replace("/", "\\") for one in whole}
        | {one.replace("\\", "/") for one in whole}
        | whole
    )
    octets = {one.encode("utf-8", "surrogateescape") for one in slashes}
    quoted = {quote(one, safe=safe) for one in octets for safe in ("/", "", "/:", "\\/:")}
    escaped = {json.dumps(one)[1:-1] for one in slashes} | {
        one.replace("\\", "\\\\") for one in slashes
    }
    return (
        slashes
        | quoted
        | escaped
        | {html.escape(one) for one in slashes}
        | {one.replace(" ", mark) for one in slashes for mark in ("\\ ", "+", "%20")}
    )


def _depth(root: str) -> int:
    return len(re.findall(r"[\\/]", root.rstrip("\\/")))


@cache
def _literal(roots: tuple[str, ...]) -> re.Pattern[str]:
    """The folders in all their forms, with the separator that follows; not the beginning of a
    longer name."""
    found = {form: _depth(root) for root in roots for form in _forms(root.rstrip("/\\"))}
    # one folder below / may be the end of another path: `runs/data` is not `/data`
    forms = [
        ("" if found[form] > 1 else r"(?<![\w.-])") + re.escape(form)
        for form in sorted(found, key=len, reverse=True)
    ]
    if not forms:
        return re.compile("(?!)")
    return re.compile(
        rf"(?:file:/{{0,2}})?(?:{'|'.join(forms)})(?:{RUN}|(?![\w.-]))", re.IGNORECASE
    )


@cache
def _parts(people: tuple[str, ...]) -> re.Pattern[str]:
    """A login name or the machine's as one part of a path."""
    names = "|".join(re.escape(name) for name in people if len(name) > 2 and name != "localhost")
    if not names:
        return re.compile("(?!)")
    return re.compile(
        rf"(?:(?<=[/\\~])|(?<=%2[fF])|(?<=%5[cC]))(?:{names})(?:{RUN}|(?![\w.-]))", re.IGNORECASE
    )


def _own_token() -> bytes | None:
    """The token with which a push is about to be done."""
    from huggingface_hub import get_token

    token = get_token()
    return token.encode() if token and len(token) >= 8 else None


@contextmanager
def _mapped(path: Path) -> Iterator[Any]:
    """The bytes of a file for a search, without reading it into memory."""
    with open(path, "rb") as file:
        if not os.fstat(file.fileno()).st_size:
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield content
