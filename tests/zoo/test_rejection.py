"""Whether an unknown answer finds foreign pictures, and where that is said."""

import pytest

from zoo.contract import rejection


@pytest.mark.parametrize(
    ("rejected", "weakest"),
    [
        ({}, None),
        ({"noise": 1.0, "digits": 0.07}, ("digits", 0.07)),
        ({"noise": 0.4, "digits": 0.9}, ("noise", 0.4)),
        ({"noise": 0.5, "digits": 0.6}, ("noise", 0.5)),
    ],
)
def test_the_foreign_set_that_is_found_least_decides(
    rejected: dict[str, float], weakest: tuple[str, float] | None
) -> None:
    assert rejection.weakest(rejected) == weakest
    warning = rejection.warning(rejected)
    assert (warning is None) == (weakest is None or weakest[1] >= 0.5)
    if warning and weakest:
        assert (
            f"only {weakest[1]:.0%} of the foreign pictures '{weakest[0]}' are called unknown"
            in warning
        )
