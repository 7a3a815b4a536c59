"""A picture in, an answer out: decode, ONNX Runtime, decision. The one inference path of parity
check, page and API."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zoo.answer import onnx_runtime
from zoo.answer.self_check import Answer as Asked
from zoo.answer.self_check import Checked, compared_numbers
from zoo.answer.self_check import check_answers as check_here
from zoo.contract import bundle as bundles
from zoo.contract import decision, model_metadata, swaps
from zoo.contract.bundle import Bundle
from zoo.contract.decision import Answer
from zoo.host.errors import BadImage, UserError, first_line
from zoo.picture import tta
from zoo.picture.decoding import decode
from zoo.picture.exif import ORIENTATION
from zoo.picture.opened import MAX_ASPECT

Picture = bytes | Path | Image.Image | np.ndarray
"""A file's bytes, its path, or a picture as `zoo.picture.decoding.decode` gives it, also as its
pixels (uint8 [H, W, 3])."""
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
    """float32 [D]: the network's pooled features, not normalised. If the decision names an earlier
    stage: scaled to length 1, with the stage's mean and deviation behind them
    (`zoo.contract.decision.Early`)."""
    heatmap: np.ndarray | None
    """float32 [h, w] in [0, 1] of the most probable class, over what the network sees; None: the
    model has none."""


class Predictor:
    """A loaded bundle; final. Threads may share it.

    `bundle`: what `zoo.contract.bundle.open_bundle` takes or gave. `provider`: `cpu`, `cuda`, or
    `auto` (CUDA where a session really gets it); the attribute `provider` tells which of the two is
    used. `threads` of one operation on the CPU, 0 = one per core. `check`: first answer the
    bundle's examples, as `zoo.answer.self_check` does; the attribute `checked` tells how that went,
    None without it. Raises `UserError` for a bundle that cannot be opened, a model file that is not
    the bundle's, a missing or broken ONNX Runtime, a provider that was asked for and cannot be had,
    and one that answers otherwise than the bundle did where it was exported.
    """

    def __init__(
        self,
        bundle: Bundle | str | Path,
        *,
        provider: str = "auto",
        threads: int = 0,
        check: bool = True,
    ):
        if isinstance(bundle, Bundle):
            self._load(bundle, provider, threads, check)
            return
        # model and examples too: what is opened may be swapped before they are read
        swaps.read_between(
            bundle, lambda: self._load(bundles.open_bundle(bundle), provider, threads, check)
        )

    def _load(self, bundle: Bundle, provider: str, threads: int, check: bool) -> None:
        self.bundle = bundle
        self._session, self.provider = onnx_runtime.load_session(
            bundle.model, provider, threads=threads
        )
        _check_model(self._session, bundle)
        # each picture goes through the network once for each view
        self._batch = max(1, PASSES // len(tta.VIEWS[bundle.decision.views]))
        self.checked: Checked | None = self._check(threads) if check else None

    def _check(self, threads: int) -> Checked:
        # loaded only where there are no examples: it takes the memory of the model once more
        def by_cpu() -> Asked:
            return Predictor(self.bundle, provider="cpu", threads=threads, check=False).numbers

        return check_here(self.bundle, self.provider, self.numbers, by_cpu)

    def numbers(self, picture: Path | np.ndarray) -> np.ndarray:
        """What the answer to a picture depends on, `zoo.answer.self_check.compared_numbers`.
        Raises as `predict`."""
        predicted = self.predict(picture)
        return compared_numbers(predicted.probabilities, predicted.unknown_score)

    def predict(
        self, picture: Picture, *, top: int = 5, limit_s: float = onnx_runtime.LONGEST_RUN_S
    ) -> Prediction:
        """The answer to one picture, with `top` classes in `answer.top`.

        Raises `BadImage`, and `NoAnswer` if the model has not answered after `limit_s` seconds.
        """
        return self._run(_pixels(picture)[None], top, limit_s)[0]

    def predict_many(self, pictures: Iterable[Picture], *, top: int = 5) -> list[Prediction]:
        """The answers to many pictures, in their order; `BadImage` if one of them cannot be read.

        Pictures of equal size share a pass. In it the last bits of a number can be others than
        alone.
        """
        predictions: dict[int, Prediction] = {}
        for batch in _batches(pictures, self._batch):
            places, pixels = zip(*batch, strict=True)
            predictions.update(zip(places, self._run(np.stack(pixels), top), strict=True))
        return [predictions[place] for place in range(len(predictions))]

    def _run(
        self, image_BHWC: np.ndarray, top: int, limit_s: float = onnx_runtime.LONGEST_RUN_S
    ) -> list[Prediction]:
        names = self.bundle.outputs
        try:
            found = onnx_runtime.run(
                self._session, names, {bundles.IMAGE: image_BHWC}, self.provider, limit_s=limit_s
            )
        except TimeoutError as error:
            raise NoAnswer(
                f"{self.bundle.model}: {error} to a picture of {image_BHWC.shape[2]} x "
                f"{image_BHWC.shape[1]}. Give it more time or cores, or export a smaller model."
            ) from None
        except onnx_runtime.failures() as error:
            raise UserError(
                f"{self.bundle.model} cannot answer a picture of {image_BHWC.shape[2]} x "
                f"{image_BHWC.shape[1]}: {first_line(error)[:200]}. "
                f"{bundles.export_it(self.bundle.folder)}"
            ) from None
        outputs = dict(zip(names, found, strict=True))
        _check_outputs(outputs, len(image_BHWC), self.bundle)
        predictions = []
        for place in range(len(image_BHWC)):
            of_picture = {name: values[place] for name, values in outputs.items()}
            predictions.append(self._prediction(of_picture, top))
        return predictions

    def _prediction(self, outputs: dict[str, np.ndarray], top: int) -> Prediction:
        probabilities = outputs[bundles.PROBABILITIES]
        score = None
        if bundles.UNKNOWN_SCORE in outputs:
            score = float(outputs[bundles.UNKNOWN_SCORE])
        answer = decision.answer(
            probabilities, score, self.bundle.labels, self.bundle.decision, top=top
        )
        return Prediction(
            answer, probabilities, score, outputs[bundles.EMBEDDING], outputs.get(bundles.HEATMAP)
        )


def _check_outputs(outputs: dict[str, Any], count: int, bundle: Bundle) -> None:
    """`UserError` unless a model gives what its bundle says: numbers for each picture, a
    probability for each class."""
    shapes = {bundles.PROBABILITIES: (count, len(bundle.labels)), bundles.UNKNOWN_SCORE: (count,)}
    dimensions = {bundles.EMBEDDING: 2, bundles.HEATMAP: 3}
    for name, values in outputs.items():
        shape: tuple[int, ...] = getattr(values, "shape", ())
        if name in shapes:
            right = shape == shapes[name]
        else:
            right = len(shape) == dimensions[name] and shape[0] == count
        if not right or values.dtype != np.float32:
            raise UserError(
                f"{bundle.model} gives {name} as {getattr(values, 'dtype', '?')} {list(shape)}: "
                f"expected float32 for {count} pictures and {len(bundle.labels)} classes. "
                f"{bundles.export_it(bundle.folder)}"
            )
    # NaN would win or lose every comparison, and JSON has no word for it
    if not np.isfinite(outputs[bundles.PROBABILITIES]).all():
        raise UserError(
            f"{bundle.model} gives probabilities that are not finite: expected numbers from 0 to "
            f"1. {bundles.export_it(bundle.folder)}"
        )


def _check_model(session: Any, bundle: Bundle) -> None:
    """`UserError` unless the loaded model describes itself as its bundle does: digests can be made
    again."""
    described = session.get_modelmeta().custom_metadata_map.get(model_metadata.METADATA, "")
    # a file may give more than its bundle says, never less
    lacks = set(bundle.outputs) - {output.name for output in session.get_outputs()}
    inputs = {port.name: port.type for port in session.get_inputs()}
    if lacks or inputs != {bundles.IMAGE: "tensor(uint8)"}:
        seen = str(inputs)
        if lacks:
            seen += f" without {', '.join(sorted(lacks))}"
        raise UserError(
            f"{bundle.model}: expected the input {bundles.IMAGE} (uint8) and the outputs "
            f"{', '.join(bundle.outputs)}, seen {seen}. {bundles.export_it(bundle.folder)}"
        )
    if other := model_metadata.differences(bundle, described):
        raise UserError(
            f"{bundle.model} is not the model of {bundles.BUNDLE}: expected that both describe the "
            f"same {', '.join(other)}, seen two. {bundles.export_it(bundle.folder)}"
        )


def _pixels(picture: Picture, name: str = "picture") -> np.ndarray:
    """uint8 [H, W, 3]; `name` is what errors call a picture that is not a path."""
    if isinstance(picture, bytes | Path):
        if isinstance(picture, Path):
            name = ""  # its path
        return np.asarray(decode(picture, name=name))
    if isinstance(picture, np.ndarray):
        return _accepted(picture, name)
    if not isinstance(picture, Image.Image):
        raise UserError(
            "expected a picture as bytes, pathlib.Path or PIL image, seen "
            f"{type(picture).__name__}."
        )
    if not _is_as_decoded(picture):
        raise UserError(
            "expected a picture as zoo.picture.decoding.decode gives it (RGB, opaque, no EXIF "
            f"orientation), seen mode {picture.mode} or one of these: pass the file's bytes or its "
            "path instead."
        )
    return _accepted(np.asarray(picture), name)


def _is_as_decoded(picture: Image.Image) -> bool:
    """Whether this is RGB, opaque and upright."""
    if picture.mode != "RGB" or picture.has_transparency_data:
        return False
    return picture.getexif().get(ORIENTATION, 1) == 1


def _accepted(x_HWC: np.ndarray, name: str) -> np.ndarray:
    """These pixels, if they are a picture's."""
    if x_HWC.dtype != np.uint8 or x_HWC.ndim != 3 or x_HWC.shape[2] != 3:
        raise UserError(
            f"expected pixels as uint8 [height, width, 3], seen {x_HWC.dtype} {list(x_HWC.shape)}."
        )
    height, width, _ = x_HWC.shape
    # the same bound as the decoder's: resizing a long strip takes gigabytes
    if not 0 < max(width, height) <= MAX_ASPECT * min(width, height):
        raise BadImage(
            name, f"too elongated: {width} x {height}, at most {MAX_ASPECT}:1 is accepted"
        )
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
        # pictures of ever new sizes fill no batch
        elif waiting_bytes > WAITING_BYTES:
            yield from waiting.values()
            waiting, waiting_bytes = {}, 0
    yield from waiting.values()
