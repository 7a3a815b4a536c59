"""The names of the splits of a run's pictures, as files.csv and predictions.csv have them.

The model learns from train. Val is halved where it is large enough: select chooses among weights
and settings, calibrate fits what the answer says (temperature, views, the threshold of unknown).
Test is read once, at the end. In predictions.csv any other name is that of a set of foreign
pictures.
"""

SPLITS = ("train", "val", "test")
"""In the order in which they are shown. Bytes that stand in two of them stay in the later one."""
HALVES = ("select", "calibrate")
"""The two parts of val."""
OF_VAL = (*HALVES, "val")
"""Names that belong to val in predictions.csv; `val` itself where it was too small to be halved."""


def members(split: str) -> tuple[str, ...]:
    """Return the names in predictions.csv that a split takes together: val has its halves too."""
    return OF_VAL if split == "val" else (split,)
