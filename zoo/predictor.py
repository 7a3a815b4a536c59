"""A picture in, an answer out, for programs and from the command line (zoo/answer/predict.py).

    predictor = Predictor("runs/mydataset-vit_base_21k")
    predictor.predict(Path("cat.jpg")).answer.label

A `Predictor` takes a run folder, a bundle folder or a model.onnx.

`python -m zoo.predictor BUNDLE PICTURE...` prints one line of JSON per picture. Needs NumPy, Pillow
and ONNX Runtime, which is loaded with the first `Predictor`; never torch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zoo.answer.predict import NoAnswer as NoAnswer
from zoo.answer.predict import Prediction as Prediction
from zoo.answer.predict import Predictor as Predictor
from zoo.answer.self_check import unchecked
from zoo.contract import bundle as bundles
from zoo.host import console
from zoo.host.errors import BadImage, UserError, run_main


def answer_files(
    bundle: Path,
    pictures: tuple[Path, ...],
    outputs: Path | None = None,
    provider: Literal["auto", "cpu", "cuda"] = "auto",
    threads: int = 0,
    unfinished: bool = False,
    self_check: bool = True,
) -> int:
    """Answer pictures by a bundle: one line of JSON for each, in order. Exit code 1 if one cannot
    be read.

    Args:
        bundle: A run folder, a bundle folder or a model.onnx in one.
        pictures: Picture files.
        outputs: Also save all that the model gives as this .npz: probabilities, unknown_score,
            embedding and heatmap, one row per picture, NaN for those that cannot be read.
        provider: auto is CUDA where it can be had, else the CPU.
        threads: Of one operation on the CPU; 0 is one per core.
        unfinished: Also take a bundle that has not been proved yet (the export's own check).
        self_check: First answer the bundle's examples (six at most), and refuse if that differs
            from what its export wrote down (--no-self-check: do not).
    """
    if not pictures:
        raise UserError(
            "expected one picture file at least, seen none: name them after the bundle."
        )
    if outputs and (outputs.is_dir() or not outputs.absolute().parent.is_dir()):
        raise UserError(
            f"--outputs {outputs}: expected a file, not a folder, in a folder that exists (make "
            f"{outputs.parent} first)."
        )
    opened = bundles.open_bundle(bundle, finished=not unfinished)
    predictor = Predictor(
        # an unfinished bundle has no examples yet: its export writes them after this very command
        opened,
        provider=provider,
        threads=threads,
        check=self_check and not unfinished,
    )
    if predictor.checked and not predictor.checked.pictures:
        console.note(unchecked(opened, predictor.provider))
    predictions: list[Prediction | None] = []
    for path in pictures:
        try:
            prediction = predictor.predict(path)
            predictions.append(prediction)
            answer = _line(prediction)
        # the others are answered all the same, each on its own line
        except BadImage as error:
            predictions.append(None)
            answer = {"error": error.reason}
        console.say_json({"file": str(path), **answer})
    if outputs:
        _save(outputs, predictions, opened.outputs)
    return int(None in predictions)


def _line(prediction: Prediction) -> dict[str, Any]:
    answer = prediction.answer
    return {
        "label": answer.label,
        "unknown": answer.label is None,
        "top": answer.top,
        "set": answer.prediction_set,
        "unknown_score": prediction.unknown_score,
    }


def _save(path: Path, predictions: Sequence[Prediction | None], names: Sequence[str]) -> None:
    """Write the outputs of all pictures, one array each."""
    answered = list(filter(None, predictions))
    arrays: dict[str, Any] = {}
    for name in names:
        shape = np.shape(getattr(answered[0], name)) if answered else ()
        arrays[name] = np.full((len(predictions), *shape), np.nan, np.float32)
        for row, prediction in enumerate(predictions):
            if prediction is not None:
                arrays[name][row] = getattr(prediction, name)
    # an open file, because np.savez adds .npz to a name that lacks it
    with open(path, "wb") as file:
        np.savez(file, **arrays)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command; `args` as in `sys.argv[1:]`."""
    # here, because programs that import `Predictor` have no command line
    import tyro

    return tyro.cli(
        answer_files,
        prog="python -m zoo.predictor",
        args=args,
        config=(tyro.conf.PositionalRequiredArgs, tyro.conf.FlagCreatePairsOff),
    )


if __name__ == "__main__":
    run_main(main)
