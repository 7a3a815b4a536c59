"""How folders, names of people and access tokens are written in texts and files: the patterns by
which zoo/publish/private.py cuts or refuses them."""

import html
import json
import os
import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from urllib.parse import quote

SEPARATOR = r"(?:[\\/]|%2[fF]|%5[cC])"
RUN = rf"{SEPARATOR}{{1,8}}"
PART = r"""[^\s"'<>|:,;/\\][^"'<>|:,;/\\\n]{0,255}?"""
"""One folder of a path; blanks may stand in it."""
HOMES = re.compile(
    rf"(?:[\w.-]{{1,64}}:)?(?:[A-Za-z]:)?{RUN}(?:home|users|Documents and "
    rf"Settings|export/home|var/home){RUN}"
    rf"""(?:[^"'<>|:,;/\\\n%]|%(?!2[fF]|5[cC])){{1,255}}"""
    rf"""(?:{RUN}(?:{PART}{RUN})*|(?=["'<>|:,;\n])|\Z)""",
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
    rb"(?<![A-Za-z0-9])(?:hf_(?:[a-z]{2,8}_)?[A-Za-z0-9]{20}|hf_oauth_[\w.-]{20}"
    rb"|api_(?:org_)?[A-Za-z0-9]{20}|gh[pousr]_[A-Za-z0-9]{30}|github_pat_\w{30}"
    rb"|glpat-[\w-]{20}|AKIA[A-Z0-9]{16}|xox[abprs]-[\w-]{20}|sk-[A-Za-z0-9_-]{32}"
    rb"|-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----)"
)
"""Access tokens of the Hub, those of other services that are known by their beginning, and private
keys."""
NOTHING = re.compile("(?!)")
"""Matches nowhere."""


def _forms(folder: str) -> set[str]:
    """How a program may write a folder: slashes of either system, quoted for an address, JSON, XML,
    in either Unicode form."""
    whole = {unicodedata.normalize("NFC", folder), unicodedata.normalize("NFD", folder), folder}
    forms = set(whole)
    for text in whole:
        forms |= {text.replace("/", "\\"), text.replace("\\", "/")}
    # a copy: forms are added while it is gone through
    for text in list(forms):
        octets = text.encode("utf-8", "surrogateescape")
        forms.update(quote(octets, safe=safe) for safe in ("/", "", "/:", "\\/:"))
        forms.update(text.replace(" ", mark) for mark in ("\\ ", "+", "%20"))
        forms |= {json.dumps(text)[1:-1], text.replace("\\", "\\\\"), html.escape(text)}
    return forms


def depth(folder: str) -> int:
    """How many folders deep a path leads: 1 for `/tmp`."""
    return len(re.findall(r"[\\/]", folder.rstrip("\\/")))


@cache
def literal(folders: tuple[str, ...]) -> re.Pattern[str]:
    """The folders in all their forms, with the separator that follows; not the beginning of a
    longer name."""
    depths = {}
    for folder in folders:
        depths.update(dict.fromkeys(_forms(folder.rstrip("/\\")), depth(folder)))
    alternatives = []
    # longest first, because an alternative takes the first form that fits
    for form in sorted(depths, key=len, reverse=True):
        # one folder below / may be the end of another path: `runs/data` is not `/data`
        before = "" if depths[form] > 1 else r"(?<![\w.-])"
        alternatives.append(before + re.escape(form))
    if not alternatives:
        return NOTHING
    return re.compile(
        rf"(?:file:/{{0,2}})?(?:{'|'.join(alternatives)})(?:{RUN}|(?![\w.-]))", re.IGNORECASE
    )


@cache
def parts(people: tuple[str, ...]) -> re.Pattern[str]:
    """A login name or the machine's as one part of a path."""
    names = "|".join(re.escape(name) for name in people if len(name) > 2 and name != "localhost")
    if not names:
        return NOTHING
    return re.compile(
        rf"(?:(?<=[/\\~])|(?<=%2[fF])|(?<=%5[cC]))(?:{names})(?:{RUN}|(?![\w.-]))", re.IGNORECASE
    )


def endings(names: Iterable[str]) -> re.Pattern[str]:
    """What may be the end of a picture's name."""
    found = {os.path.splitext(name)[1] or name[-3:] for name in names}
    # too many for a pattern: then every end of a word is looked at
    if len(found) > 200:
        return re.compile(r".(?!\w)", re.DOTALL)
    if not found:
        return NOTHING
    return re.compile("|".join(map(re.escape, sorted(found, key=len, reverse=True))))


def below(folders: Iterable[str]) -> re.Pattern[bytes]:
    """The folders as they stand in the bytes of a file. Those directly below the root are left out:
    `/tmp` may stand in any file."""
    alternatives = []
    for folder in folders:
        if depth(folder) > 1:
            octets = folder.encode("utf-8", "surrogateescape")
            alternatives.append(re.escape(octets) + rb"(?!\w)")
    return re.compile(b"|".join(alternatives) or rb"(?!)")
