"""`zootune COMMAND ...`: every command under one name.

Each is the same as its `python -m` form, which stays. This one also works in a folder that has a
`serve.py` of its own, where `python -m serve` would run that file. Nothing is imported but the
command that was asked for.
"""

import difflib
import runpy
import sys

from zoo.host import console
from zoo.host.errors import UserError, run_main
from zoo.host.text import one_line

COMMANDS = {
    "finetune": ("finetune", "fine-tune a pretrained base on your pictures"),
    "check": ("finetune.check", "look for what is wrong with the pictures; trains nothing"),
    "explain": ("finetune.explain", "the recipe that a run would get, without pictures"),
    "find-lr": ("finetune.find_lr", "learning-rate range test"),
    "show-augment": ("finetune.show_augment", "draw what each augmentation does"),
    "compare": ("finetune.compare", "train several bases or settings, side by side"),
    "decide": ("finetune.decide", "fit the decision of a finished run again"),
    "predict": ("finetune.predict", "answers of a finished run to any pictures, as a table"),
    "export": ("export", "turn a finished run into ONNX, int8, OpenVINO, TensorRT, Triton, web"),
    "verify": ("export.verify", "check an exported file on this machine"),
    "bench": ("export.bench", "measure how fast exported files answer"),
    "serve": ("serve", "web page and HTTP API"),
    "space": ("serve.space", "a Hugging Face Space"),
    "answer": ("zoo.predictor", "answers of an exported file, without torch"),
    "list": ("zoo list", "the pretrained bases"),
    "show": ("zoo show", "one base"),
    "pull": ("zoo pull", "fetch the weights of a base, or a published run"),
    "push": ("zoo push", "publish a finished run on the Hugging Face Hub"),
    "runs": ("zoo compare", "finished runs, side by side"),
    "add": ("zoo add", "give a base of the Hub a name of your own"),
    "remove": ("zoo remove", "forget that name"),
}
"""Command -> (what `python -m` runs, what it does)."""
NEWLINE = "\n"


def main() -> None:
    """Run the command that the command line names."""
    words = sys.argv[1:]
    if words and words[0] in COMMANDS:
        module, *inner = COMMANDS[words[0]][0].split()
        sys.argv = [module, *inner, *words[1:]]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        return
    run_main(lambda: _without_command(words))


def _without_command(words: list[str]) -> int:
    """Say what there is, or that there is no such command."""
    if not words or words[0] in ("-h", "--help"):
        width = max(map(len, COMMANDS))
        rows = (f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items())
        console.say(
            f"usage: zootune COMMAND ...{NEWLINE}{NEWLINE.join(rows)}{NEWLINE}"
            "zootune COMMAND --help explains one; --version says which this is."
        )
        return 0
    if words[0] == "--version":
        from importlib.metadata import version

        console.say(f"zootune {version('zootune')}")
        return 0
    near = difflib.get_close_matches(words[0], COMMANDS, 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise UserError(f"zootune {one_line(words[0])}: expected one of {', '.join(COMMANDS)}.{hint}")
