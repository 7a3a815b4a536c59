"""`python -m serve.space RUN_OR_BUNDLE --out FOLDER`: the same page and API as the folder of a
Hugging Face Space.

    FOLDER/  app.py  requirements.txt  README.md  Dockerfile  zoo/  serve/  model/README.md
    model/bundles/onnx/

It needs no torch. `docker build FOLDER` makes an image of the same, which runs as a user without
rights.
"""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from zoo.contract import bundle as bundles
from zoo.host import console
from zoo.host.errors import UserError, run_main
from zoo.host.text import shell_path


@dataclass(frozen=True)
class Space:
    """What becomes a Space."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """A run folder with a bundle, a bundle folder, or its model.onnx; a published run by name or
    alias, as for `python -m serve`."""
    out: Path
    """Folder to write; it must not exist, or be empty."""
    title: str | None = None
    """Shown on the Hub; default: the name of the run."""
    with_examples: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also pack the up to six validation pictures in the bundle, without their metadata."""


def main(space: tyro.conf.OmitArgPrefixes[Space]) -> None:
    """Write the folder of a Hugging Face Space with the page and the API of this model.

    What it holds is listed, and nothing is sent. Pictures, their names, folders and people stay out
    of it.
    """
    # --help needs none of it
    from serve.deploy.space_folder import write_space
    from serve.start import local

    out = space.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(
            f"--out {out}: expected a new or empty folder, seen one with content: name another."
        )
    bundle = bundles.open_bundle(local(space.bundle))
    with tempfile.TemporaryDirectory() as temporary:
        # so that a refusal leaves nothing in `out`
        whole = Path(temporary) / "space"
        write_space(bundle, whole, title=space.title, with_examples=space.with_examples)
        shutil.copytree(whole, out, dirs_exist_ok=True)
    _show(out, with_pictures=space.with_examples)
    console.say(
        f"{out} is the folder of a Space. Try it: python {shell_path(out / 'app.py')}\nUpload it: "
        "hf repo create NAME/SPACE --repo-type space --space-sdk gradio, then hf upload NAME/SPACE "
        f"{shell_path(out)} . --repo-type space"
    )


def _show(out: Path, *, with_pictures: bool) -> None:
    """Say what will leave this machine once the folder is uploaded: name and size of each file, the
    code in one line."""
    from serve.deploy.space_folder import files_below, is_code

    files = [*files_below(out)]
    code = [path for path in files if is_code(path, out)]
    pictures = "without"
    if with_pictures:
        pictures = "with"
    console.say(f"{len(files)} files, {pictures} pictures; nothing has been sent:")
    for path in files:
        if not is_code(path, out):
            console.say(f"  {path.stat().st_size:>12,}  {path.relative_to(out).as_posix()}")
    size = sum(path.stat().st_size for path in code)
    console.say(f"  {size:>12,}  zoo/ and serve/, {len(code)} files of this program")


if __name__ == "__main__":
    run_main(lambda: tyro.cli(main, prog="python -m serve.space"))
