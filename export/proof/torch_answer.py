"""The reference of a proof: what torch and `zoo/contract/decision.py` make of one picture."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from export.graph.deployed import DeployedParts
from zoo.contract import bundle, decision
from zoo.network import class_maps
from zoo.network.forward import forward
from zoo.picture.preprocess import normalise


@dataclass(frozen=True)
class TorchAnswer:
    """What the trained model answers to the views of one picture."""

    x: np.ndarray
    """float32 [3, S, S]: the first view, normalised."""
    core: np.ndarray
    """Logits of the first view, float32 [C]."""
    outputs: Mapping[str, np.ndarray]
    """By the names of the deployed graph's outputs."""


@torch.inference_mode()
def answer_by_torch(parts: DeployedParts, pixels: np.ndarray, *, has_map: bool) -> TorchAnswer:
    """Answer the views of one picture, uint8 [views, S, S, 3], by torch and
    zoo.contract.decision."""
    x = np.stack([normalise(view, parts.pre) for view in pixels])
    result = forward(parts.model, torch.from_numpy(x), parts.decision.early)
    logits = result.logits.float().numpy()
    # by zoo/contract/decision.py, not by the graph's own code, which is what is to be proved
    p_C = decision.temper(decision.average(logits[None]), parts.decision.temperature)[0]
    # of the first view, which is the whole picture
    embedding = result.embedding[:1].float().numpy()
    outputs = {bundle.PROBABILITIES: p_C, bundle.EMBEDDING: embedding[0]}
    unknown = parts.decision.unknown
    if unknown is not None and parts.bank is not None:
        outputs[bundle.UNKNOWN_SCORE] = decision.knn_distance(
            embedding, parts.bank.numpy(), unknown.neighbours, unknown.shortest
        )[0]
    if has_map:
        best = torch.tensor([p_C.argmax()])
        heatmap = class_maps.heatmap(parts.model, result.feature_map[:1], best)
        outputs[bundle.HEATMAP] = heatmap[0].numpy()
    return TorchAnswer(x[0], logits[0], outputs)
