"""The test pictures of ILSVRC2012, a tar without labels, read where it lies; and the order in which
the challenge's server numbers the classes."""

import re
from pathlib import Path
from typing import NamedTuple

from finetune.sources.imagenet_tars import DEVKIT, read_devkit
from finetune.sources.plain_tar import checked, is_plain_member, members, opened, shown_member
from zoo.host.errors import UserError

TEST_TAR = re.compile(r"ILSVRC2012_img_test.*\.tar")
TEST_PICTURE = re.compile(r"(?:test/)?ILSVRC2012_test_[0-9]{8}\.JPEG")


class Member(NamedTuple):
    """Says where the bytes of a picture are in the tar."""

    offset: int
    size: int


def is_test_tar(path: Path) -> bool:
    """Tell whether this is the tar with the test pictures, by its name."""
    return TEST_TAR.fullmatch(path.name) is not None and path.is_file()


def pictures_of_test_tar(tar: Path) -> dict[str, Member]:
    """List the pictures: name -> place; `UserError` for a tar that is damaged or holds anything
    else."""
    found: dict[str, Member] = {}
    with opened(tar) as archive:
        for member in members(archive, tar):
            if member.isdir():
                continue
            if not is_plain_member(member):
                raise UserError(
                    f"{tar} holds {shown_member(member.name)}, which is not a regular file: "
                    "expected only pictures. Download it again."
                )
            name = checked(member.name, TEST_PICTURE, tar)
            found[name] = Member(member.offset_data, member.size)
    if not found:
        raise UserError(f"{tar} holds no picture: expected the test pictures of ILSVRC2012.")
    return found


def class_numbers(folder: Path) -> dict[str, int] | None:
    """Read the numbers of the classes: WordNet id -> number; None where the folder has no
    development kit."""
    path = folder / DEVKIT
    return read_devkit(path).numbers if path.is_file() else None
