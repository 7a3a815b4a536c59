"""A picture in, an answer out: decode, ONNX Runtime, decision. The one inference path of parity check, page and API.

    predictor = Predictor("runs/mydataset-vit_base_21k")     # a run folder, a bundle folder or a model.onnx
    predictor.predict(Path("cat.jpg")).answer.label

`python -m zoo.predictor BUNDLE PICTURE...` prints one line of JSON per picture. Needs NumPy, Pillow and ONNX Runtime,
which is loaded with the first `Predictor`; never torch.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from zoo import bundle as bundles
from zoo import console, decision, runtime, tta
from zoo.bundle import Bundle
from zoo.decision import Answer
from zoo.errors import BadImage, UserError, first_line, run_main
from zoo.opened import MAX_ASPECT
from zoo.preprocess import decode
from zoo.self_check import Answer as Asked
from zoo.self_check import Checked, unchecked
from zoo.self_check import check as check_here

Picture = bytes | Path | Image.Image | np.ndarray
"""A file's bytes, its path, or a picture as `zoo.preprocess.decode` gives it, also as its pixels (uint8 [H, W, 3])."""
PASSES = 32
"""At most so many pictures, times views, go through the network at once."""
WAITING_BYTES = 100_000_000
"""So many decoded bytes may wait in `predict_many` for pictures of the same size."""


class NoAnswer(UserError):
    """The model had not answered when its time was over."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """All that the model says about one picture."""

    answer: Answer
    probabilities: np.ndarray
    """float32 [classes], calibrated."""
    unknown_score: float | None
    """None: the model has none."""
    embedding: np.ndarray
    """float32 [D], not normalised."""
    heatmap: np.ndarray | None
    """float32 [h, w] in [0, 1] of the most probable class, over what the network sees; None: the model has none."""


class Predictor:
    """A loaded bundle; final. Threads may share it.

    `bundle`: what `zoo.bundle.open_bundle` takes or gave. `provider`: `cpu`, `cuda`, or `auto` (CUDA where a session
    really gets it); the attribute `provider` tells which of the two is used. `threads` of one operation on the CPU,
    0 = one per core. `check`: first answer the bundle's examples, as `zoo.self_check` does; the attribute `checked`
    tells how that went, None without it. Raises `UserError` for a bundle that cannot be opened, a model file that is
    not the bundle's, a missing or broken ONNX Runtime, a provider that was asked for and cannot be had, and one that
    answers otherwise than the bundle did where it was exported.
    """

    def __init__(self, bundle: Bundle | str | Path, *, provider: str = "auto", threads: int = 0, check: bool = True):
        self.bundle = bundle if isinstance(bundle, Bundle) else bundles.open_bundle(bundle)
        self._session, self.provider = runtime.load(self.bundle.model, provider, threads=threads)
        _check_model(self._session, self.bundle)
        self._batch = max(1, PASSES // len(tta.VIEWS[self.bundle.decision.views]))
        self.checked: Checked | None = self._check(threads) if check else None

    def _check(self, threads: int) -> Checked:
        def by_cpu() -> Asked:
            return Predictor(self.bundle, provider="cpu", threads=threads, check=False)._probabilities

        return check_here(self.bundle, self.provider, self._probabilities, by_cpu)

    def _probabilities(self, picture: Path | np.ndarray) -> np.ndarray:
        return self.predict(picture).probabilities

    def predict(self, picture: Picture, *, top: int = 5, limit_s: float = runtime.LONGEST_RUN_S) -> Prediction:
        """The answer to one picture, with `top` classes in `answer.top`.

        Raises `BadImage`, and `NoAnswer` if the model has not answered after `limit_s` seconds.
        """
        return self._run(_pixels(picture)[None], top, limit_s)[0]

    def predict_many(self, pictures: Iterable[Picture], *, top: int = 5) -> list[Prediction]:
        """The answers to many pictures, in their order; `BadImage` if one of them cannot be read.

        Pictures of equal size share a pass. In it the last bits of a number can be others than alone.
        """
        predictions: dict[int, Prediction] = {}
        for batch in _batches(pictures, self._batch):
            places, pixels = zip(*batch, strict=True)
            predictions.update(zip(places, self._run(np.stack(pixels), top), strict=True))
        return [predictions[place] for place in range(len(predictions))]

    def _run(self, image_BHWC: np.ndarray, top: int, limit_s: float = runtime.LONGEST_RUN_S) -> list[Prediction]:
        names = self.bundle.outputs
        try:
            found = runtime.run(self._session, names, {bundles.IMAGE: image_BHWC}, self.provider, limit_s=limit_s)
        except TimeoutError as error:
            raise NoAnswer(f"{self.bundle.model}: {error} to a picture of {image_BHWC.shape[2]} x "
                           f"{image_BHWC.shape[1]}. Give it more time or cores, or export a smaller model.") from None
        except runtime.failures() as error:
            raise UserError(f"{self.bundle.model} cannot answer a picture of {image_BHWC.shape[2]} x "
                            f"{image_BHWC.shape[1]}: {first_line(error)[:200]}. {bundles.export_it(self.bundle.folder)}"
                            ) from None
        outputs = dict(zip(names, found, strict=True))
        _check_outputs(outputs, len(image_BHWC), self.bundle)
        return [self._prediction({name: values[i] for name, values in outputs.items()}, top)
                for i in range(len(image_BHWC))]

    def _prediction(self, outputs: dict[str, np.ndarray], top: int) -> Prediction:
        probabilities = outputs[bundles.PROBABILITIES]
        score = float(outputs[bundles.UNKNOWN_SCORE]) if bundles.UNKNOWN_SCORE in outputs else None
        answer = decision.answer(probabilities, score, self.bundle.labels, self.bundle.decision, top=top)
        return Prediction(answer, probabilities, score, outputs[bundles.EMBEDDING], outputs.get(bundles.HEATMAP))


def _check_outputs(outputs: dict[str, Any], count: int, bundle: Bundle) -> None:
    """`UserError` unless a model gives what its bundle says: numbers for each picture, a probability for each class."""
    shapes = {bundles.PROBABILITIES: (count, len(bundle.labels)), bundles.UNKNOWN_SCORE: (count,)}
    dimensions = {bundles.EMBEDDING: 2, bundles.HEATMAP: 3}
    for name, values in outputs.items():
        shape: tuple[int, ...] = getattr(values, "shape", ())
        right = shape == shapes[name] if name in shapes else len(shape) == dimensions[name] and shape[0] == count
        if not right or values.dtype != np.float32:
            raise UserError(f"{bundle.model} gives {name} as {getattr(values, 'dtype', '?')} {list(shape)}: expected "
                            f"float32 for {count} pictures and {len(bundle.labels)} classes. "
                            f"{bundles.export_it(bundle.folder)}")
    if not np.isfinite(outputs[bundles.PROBABILITIES]).all():
        raise UserError(f"{bundle.model} gives probabilities that are not finite: expected numbers from 0 to 1. "
                        f"{bundles.export_it(bundle.folder)}")


def _check_model(session: Any, bundle: Bundle) -> None:
    """`UserError` unless the loaded model describes itself as its bundle does: digests can be made again."""
    described = session.get_modelmeta().custom_metadata_map.get(bundles.METADATA, "")
    lacks = set(bundle.outputs) - {output.name for output in session.get_outputs()}
    inputs = {given.name: given.type for given in session.get_inputs()}
    if lacks or inputs != {bundles.IMAGE: "tensor(uint8)"}:
        raise UserError(f"{bundle.model}: expected the input {bundles.IMAGE} (uint8) and the outputs "
                        f"{', '.join(bundle.outputs)}, seen {inputs}{' without ' if lacks else ''}"
                        f"{', '.join(sorted(lacks))}. {bundles.export_it(bundle.folder)}")
    if other := bundles.differences(bundle, described):
        raise UserError(f"{bundle.model} is not the model of {bundles.BUNDLE}: expected that both describe the same "
                        f"{', '.join(other)}, seen two. {bundles.export_it(bundle.folder)}")


def _pixels(picture: Picture, name: str = "picture") -> np.ndarray:
    """uint8 [H, W, 3]; `name` is what errors call a picture that is not a path."""
    if isinstance(picture, bytes | Path):
        return np.asarray(decode(picture, name="" if isinstance(picture, Path) else name))
    if isinstance(picture, np.ndarray):
        return _accepted(picture, name)
    if not isinstance(picture, Image.Image):
        raise UserError(f"expected a picture as bytes, pathlib.Path or PIL image, seen {type(picture).__name__}.")
    if picture.mode != "RGB" or picture.has_transparency_data or picture.getexif().get(0x0112, 1) != 1:
        raise UserError("expected a picture as zoo.preprocess.decode gives it (RGB, opaque, no EXIF orientation), seen "
                        f"mode {picture.mode} or one of these: pass the file's bytes or its path instead.")
    return _accepted(np.asarray(picture), name)


def _accepted(x_HWC: np.ndarray, name: str) -> np.ndarray:
    """These pixels, if they are a picture's."""
    if x_HWC.dtype != np.uint8 or x_HWC.ndim != 3 or x_HWC.shape[2] != 3:
        raise UserError(f"expected pixels as uint8 [height, width, 3], seen {x_HWC.dtype} {list(x_HWC.shape)}.")
    height, width, _ = x_HWC.shape
    if not 0 < max(width, height) <= MAX_ASPECT * min(width, height):
        raise BadImage(name, f"too elongated: {width} x {height}, at most {MAX_ASPECT}:1 is accepted")
    return x_HWC


def _batches(pictures: Iterable[Picture], size: int) -> Iterator[list[tuple[int, np.ndarray]]]:
    """(place, pixels) of pictures of one size at a time, at most `size` of them."""
    waiting: dict[tuple[int, ...], list[tuple[int, np.ndarray]]] = {}
    waiting_bytes = 0
    for place, picture in enumerate(pictures):
        x_HWC = _pixels(picture, f"picture {place + 1}")
        batch = waiting.setdefault(x_HWC.shape, [])
        batch.append((place, x_HWC))
        waiting_bytes += x_HWC.nbytes
        if len(batch) == size:
            waiting_bytes -= size * x_HWC.nbytes
            yield waiting.pop(x_HWC.shape)
        elif waiting_bytes > WAITING_BYTES:
            yield from waiting.values()
            waiting, waiting_bytes = {}, 0
    yield from waiting.values()


# --- python -m zoo.predictor


def answer_files(bundle: Path, pictures: tuple[Path, ...], outputs: Path | None = None,
                 provider: Literal["auto", "cpu", "cuda"] = "auto", threads: int = 0, unfinished: bool = False,
                 self_check: bool = True) -> int:
    """Answer pictures by a bundle: one line of JSON for each, in order. Exit code 1 if one cannot be read.

    Args:
        bundle: A run folder, a bundle folder or a model.onnx in one.
        pictures: Picture files.
        outputs: Also save all that the model gives as this .npz: probabilities, unknown_score, embedding and heatmap,
            one row per picture, NaN for those that cannot be read.
        provider: auto is CUDA where it can be had, else the CPU.
        threads: Of one operation on the CPU; 0 is one per core.
        unfinished: Also take a bundle that has not been proved yet (the export's own check).
        self_check: First answer the bundle's examples (six at most), and refuse if that differs from what its export
            wrote down (--no-self-check: do not).
    """
    if not pictures:
        raise UserError("expected one picture file at least, seen none: name them after the bundle.")
    if outputs and not outputs.absolute().parent.is_dir():
        raise UserError(f"--outputs {outputs}: expected a file in a folder that exists; make {outputs.parent} first.")
    opened = bundles.open_bundle(bundle, finished=not unfinished)
    predictor = Predictor(opened, provider=provider, threads=threads, check=self_check and not unfinished)
    if predictor.checked and not predictor.checked.pictures:
        console.note(unchecked(opened, predictor.provider))
    predictions: list[Prediction | None] = []
    for path in pictures:
        try:
            prediction = predictor.predict(path)
            predictions.append(prediction)
            said = _line(prediction)
        except BadImage as error:
            predictions.append(None)
            said = {"error": error.reason}
        console.answer({"file": str(path), **said})
    if outputs:
        _save(outputs, predictions, opened.outputs)
    return 1 if None in predictions else 0


def _line(prediction: Prediction) -> dict[str, Any]:
    answer = prediction.answer
    return {"label": answer.label, "unknown": answer.label is None, "top": answer.top, "set": answer.prediction_set,
            "unknown_score": prediction.unknown_score}


def _save(path: Path, predictions: Sequence[Prediction | None], names: Sequence[str]) -> None:
    """Write the outputs of all pictures, one array each."""
    given = [prediction for prediction in predictions if prediction is not None]
    arrays: dict[str, Any] = {}
    for name in names:
        shape = np.shape(getattr(given[0], name)) if given else ()
        arrays[name] = np.full((len(predictions), *shape), np.nan, np.float32)
        for row, prediction in enumerate(predictions):
            if prediction is not None:
                arrays[name][row] = getattr(prediction, name)
    with open(path, "wb") as file:
        np.savez(file, **arrays)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command; `args` as in `sys.argv[1:]`."""
    import tyro

    return tyro.cli(answer_files, prog="python -m zoo.predictor", args=list(sys.argv[1:] if args is None else args),
                    config=(tyro.conf.PositionalRequiredArgs, tyro.conf.FlagCreatePairsOff))


if __name__ == "__main__":
    run_main(main)
