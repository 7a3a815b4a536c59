"""The deployed graph as files. Its pieces are traced once, and joined anew for each target.

Tracing is what takes the time of an export: 15 s for EfficientNet-Lite0 on one core, of which the
network takes 9.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from export.graph import onnx_file
from export.graph.deployed import Deployed, DeployedParts, Prepare
from export.graph.onnx_file import ANY_BATCH, Example
from zoo.contract import bundle

PICTURE = Example(
    bundle.IMAGE,
    torch.zeros(2, 120, 160, 3, dtype=torch.uint8),
    {0: ANY_BATCH, 1: torch.export.Dim("height", min=1), 2: torch.export.Dim("width", min=1)},
)
"""Two pictures, since one would be taken for a constant."""
WINDOWS = "windows"
"""The views' pixels before normalisation."""
PREPARE, NETWORK, ANSWER = "prepare", "network", "answer"
"""The pieces; in a joined file the names of nodes and values begin with them."""
BANK, SHORTEST = f"{ANSWER}/bank", f"{ANSWER}/shortest"
"""Weights of a joined file: the references of the unknown score, and the least length of an
embedding (buffers of `deployed.AnswerGraph`)."""
PIXEL_VALUES, LOGITS = "pixel_values", "logits"
"""Input and output of the plain network, as the ecosystem names them."""


class Prepared(nn.Module):
    """The graph before the network: pixels for the proof, and the same normalised for the
    network."""

    def __init__(self, prepare: Prepare):
        super().__init__()
        self.prepare = prepare

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        windows = self.prepare.windows(image)
        return windows, self.prepare.normalised(windows)


class Pieces:
    """What was traced of one run's graph; final."""

    def __init__(self, parts: DeployedParts, log: Path):
        """`log`: file for what the exporter says when it refuses an architecture."""
        self._parts, self._log = parts, log
        self._traced: dict[tuple[object, ...], onnx.ModelProto] = {}

    def write(
        self, deployed: Deployed, path: Path, metadata: Mapping[str, str] | None = None
    ) -> None:
        """The whole graph. Raises as `onnx_file.trace` and `save`."""
        pieces = {
            PREPARE: self._prepare(deployed),
            NETWORK: self._network(deployed),
            ANSWER: self._answer(deployed),
        }
        onnx_file.save(onnx_file.joined_graph(pieces), path, metadata)

    def write_network(self, deployed: Deployed, path: Path) -> None:
        """The network alone: `pixel_values` float32 [batch, 3, S, S] -> `logits` float32 [batch,
        classes]."""
        # cut out of the traced piece, which spares tracing the network again
        onnx_file.save(onnx_file.cut(self._network(deployed), [PIXEL_VALUES], [LOGITS]), path)

    def write_pixels(self, deployed: Deployed, path: Path) -> None:
        """The views' pixels before normalisation, of pictures of any size."""
        onnx_file.save(onnx_file.cut(self._prepare(deployed), [bundle.IMAGE], [WINDOWS]), path)

    def _prepare(self, deployed: Deployed) -> onnx.ModelProto:
        prepare = deployed.prepare
        return self._once(
            # all on which this piece depends, besides what is the same for the whole run
            (PREPARE, prepare.matmul, prepare.exact),
            lambda: onnx_file.trace(
                Prepared(prepare), [PICTURE], [WINDOWS, PIXEL_VALUES], log=self._log
            ),
        )

    def _network(self, deployed: Deployed) -> onnx.ModelProto:
        network, size = deployed.network, self._parts.pre.size
        example = Example(PIXEL_VALUES, torch.zeros(2, 3, size, size), {0: ANY_BATCH})
        return self._once(
            (NETWORK, network.half_network),
            lambda: onnx_file.trace(network, [example], network.outputs, log=self._log),
        )

    def _answer(self, deployed: Deployed) -> onnx.ModelProto:
        network, answer, size = deployed.network, deployed.answer, self._parts.pre.size

        def trace() -> onnx.ModelProto:
            # One view: torch 2.14 fails on its own guards where several inputs share a batch as it
            # is, not where they share a multiple of it. No size becomes a part of the graph, which
            # takes odd batches too.
            multiple = max(2, answer.views)
            with torch.no_grad():
                values = network(torch.zeros(2 * multiple, 3, size, size))
            rows = multiple * ANY_BATCH
            examples = [
                Example(name, value, {0: rows})
                for name, value in zip(network.outputs, values, strict=True)
            ]
            return onnx_file.trace(answer, examples, answer.outputs, log=self._log)

        return self._once((ANSWER,), trace)

    def _once(
        self, key: tuple[object, ...], trace: Callable[[], onnx.ModelProto]
    ) -> onnx.ModelProto:
        if key not in self._traced:
            self._traced[key] = trace()
        return self._traced[key]
