"""What is borrowed from Starlette. Tried with Starlette 1.10.0."""

from collections.abc import AsyncGenerator

from starlette.datastructures import Headers
from starlette.formparsers import MultiPartParser

NEVER_TO_DISK = 0
"""As `spool_max_size`: no size is too large to stay in memory."""


def parser_in_memory(
    headers: Headers, stream: AsyncGenerator[bytes, None], *, most: int
) -> MultiPartParser:
    """Return a parser of forms with at most `most` files and as many fields, which keeps all of
    them in memory: there the gate counts them, and they take no open file each.

    Borrowed: `MultiPartParser.spool_max_size`. `Request.form`, the public way, has no such setting
    and writes files of more than 1 MB to disk.
    """
    parser = MultiPartParser(headers, stream, max_files=most, max_fields=most)
    # an attribute of the class, which is set here for this parser alone
    parser.spool_max_size = NEVER_TO_DISK
    return parser
