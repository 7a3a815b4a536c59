"""Which permissions a file should have that anybody's program reads."""

import os
import stat
from pathlib import Path


def odd_modes(folder: Path) -> dict[str, str]:
    """File below a folder -> its permissions, where these are not what the umask leaves of 0666."""
    umask = os.umask(0o22)
    os.umask(umask)
    modes = {
        path.relative_to(folder).as_posix(): stat.S_IMODE(path.stat().st_mode)
        for path in folder.rglob("*")
        if path.is_file()
    }
    return {name: oct(mode) for name, mode in modes.items() if mode != 0o666 & ~umask}
