"""The packages of the extra `check`, which a check needs and training does not."""

from importlib.util import find_spec

from zoo.host.errors import UserError

EXTRA = ("cleanlab", "imagehash")


def require(*modules: str) -> None:
    """Raise `UserError` with the command that installs them unless these modules are there."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise UserError(
            f"python -m finetune.check needs {' and '.join(missing)}: "
            'pip install "zootune[check]" (or, in a copy of the repository, pip install -e '
            '".[check]").'
        )
