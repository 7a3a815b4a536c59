"""A process that decodes what strangers send: `python -m serve.engine.decoder MAX_PIXELS`, started
by `serve.engine.decoders`.

Whatever a picture does to a decoder, it does it here: this process has a limit on its memory, may
be killed at any moment, and ends with the one that started it. On its standard input come requests,
on its standard output go answers:

    request  REQUEST (bytes of the encoded picture, most pixels that are accepted), then the picture
    answer   ANSWER (READY, 0, 0), once, after the start
             ANSWER (PIXELS, height, width), then height x width x 3 bytes of RGB
             ANSWER (REFUSED, bytes of the reason, 0), then the reason in UTF-8

It loads NumPy and Pillow only, because a service waits for it at its start and after each kill.
"""

import contextlib
import ctypes
import os
import platform
import signal
import struct
import sys
from collections.abc import Callable
from typing import BinaryIO

from PIL import Image

from zoo.host.errors import BadImage
from zoo.picture.decoding import decode

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
"""Accepted from strangers: the decoder's formats without TIFF, whose parsers have the longest list
of CVEs."""
MAX_BYTES = 50_000_000
"""Of one encoded picture."""
BYTES_PER_PIXEL = 25
"""What decoding takes at most. Measured at 24 million pixels with Pillow 12.3: 24.7 for WebP with
alpha that EXIF turns, 24.5 for an animated one, 16 for a turned RGBA PNG, 12 for a progressive CMYK
JPEG or PNG of 16 bits."""
SPARE_BYTES = 200_000_000
"""Besides the pixels: the encoded picture (twice where a plugin copies it) and what Pillow unpacks
of its text."""
SPARE_OF_ONE = 100_000_000
"""The same for one picture once it is opened, so that a small one cannot take what the largest may:
the tables of a lossless WebP of 0.3 MB and one million pixels would take 0.4 GB."""
REQUEST, ANSWER = struct.Struct(">QQ"), struct.Struct(">BII")
READY, PIXELS, REFUSED = range(3)
MAX_REASON = 1000
"""Bytes of a reason."""
PIPE_BYTES = 1 << 20
"""What a pipe holds, where that can be set: Linux gives this much to any user. A small picture
passes in one go."""
STRIP_BYTES = 1 << 18
"""Pixels are sent in pieces of about this size: faster than all at once, and there is no second
copy of them."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""As malloc.h has them."""
PR_SET_PDEATHSIG = 1
"""As sys/prctl.h has it."""

Decode = Callable[[bytes, int], Image.Image]
"""(encoded picture, most pixels) -> mode RGB; raises `BadImage`."""


def main(decode_picture: Decode) -> None:
    """Answer requests until standard input ends."""
    _ignore_signals()
    _end_with_parent()
    give_memory_back()
    limit_memory(int(sys.argv[1]) * BYTES_PER_PIXEL + SPARE_BYTES)
    gone = contextlib.suppress(BrokenPipeError)  # the service, which nobody needs to be told here
    with (
        gone,
        open(0, "rb", closefd=False) as requests,
        os.fdopen(os.dup(1), "wb", STRIP_BYTES) as answers,
    ):
        for pipe in (requests, answers):
            _enlarge(pipe)
        # after the pipe was duplicated, which stands at descriptor 1
        _silence()
        answers.write(ANSWER.pack(READY, 0, 0))
        answers.flush()
        _answer_all(requests, answers, decode_picture)


def decode_upload(data: bytes, max_pixels: int) -> Image.Image:
    """Decode a picture from a stranger to mode RGB, upright, on white. Raises `BadImage`."""
    try:
        return decode(
            data, max_pixels=max_pixels, max_bytes=MAX_BYTES, formats=FORMATS, reserve=_reserve
        )
    except BadImage as error:
        # libwebp does not tell which of the two it is
        if data[:4] == b"RIFF" and error.reason.startswith("damaged"):
            reason = f"{error.reason}, or it needs more memory than a picture of its size may"
            raise BadImage(error.name, reason) from None
        raise
    finally:
        _reserve(None)


def _reserve(pixels: int | None) -> None:
    """Limit this process to what a picture of so many pixels may take from here on; None: to what
    all may."""
    if sys.platform == "linux":
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        soft = hard
        if pixels is not None:
            soft = _address_space() + pixels * BYTES_PER_PIXEL + SPARE_OF_ONE
            if hard != resource.RLIM_INFINITY:
                soft = min(soft, hard)
        # the soft limit only, so that it can be raised again for the next picture
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _address_space() -> int:
    """Return the bytes of address space that this process has; Linux only."""
    import resource

    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def give_memory_back() -> None:
    """Have glibc return the memory of large pictures; by default it keeps up to 32 MB blocks, for
    each thread."""
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 20)
        # or the memory of each strip would be returned and cleared again
        libc.mallopt(M_TRIM_THRESHOLD, 4 << 20)


def limit_memory(more: int) -> None:
    """Let this process take `more` bytes of address space besides what it has; only Linux enforces
    such a limit."""
    if sys.platform == "linux":
        import resource

        limit = _address_space() + more
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        if hard != resource.RLIM_INFINITY:
            limit = min(limit, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        # a crash would write a stranger's picture to the disk
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _ignore_signals() -> None:
    """Leave Ctrl-C and SIGTERM, which reach the whole group, to the service: it finishes what is in
    flight."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _end_with_parent() -> None:
    """Have Linux kill this process with the service; elsewhere it ends when it next reads its
    standard input."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _silence() -> None:
    """Nothing that a library prints about a stranger's picture reaches the log or the answers."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _enlarge(pipe: BinaryIO) -> None:
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):  # this user's pipes hold too much already
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _answer_all(requests: BinaryIO, answers: BinaryIO, decode_picture: Decode) -> None:
    """Answer one request after the other, until there are no more."""
    while len(head := requests.read(REQUEST.size)) == REQUEST.size:
        length, max_pixels = REQUEST.unpack(head)
        data = requests.read(length)
        if len(data) < length:  # the service is gone
            return
        try:
            picture = decode_picture(data, max_pixels)
        except BadImage as error:
            reason = error.reason.encode(errors="replace")[:MAX_REASON]
            answers.write(ANSWER.pack(REFUSED, len(reason), 0) + reason)
        else:
            _send(answers, picture)
            del picture  # or it would stay in memory until the next one is decoded
        answers.flush()
        del data


def _send(answers: BinaryIO, picture: Image.Image) -> None:
    width, height = picture.size
    answers.write(ANSWER.pack(PIXELS, height, width))
    rows = max(1, STRIP_BYTES // (3 * width))
    for top in range(0, height, rows):
        answers.write(picture.crop((0, top, width, min(top + rows, height))).tobytes())


if __name__ == "__main__":
    main(decode_upload)
