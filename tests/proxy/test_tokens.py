"""What a broker may order."""

import pydantic
import pytest

from acredssp.proxy.tokens import TokenOrder


@pytest.mark.parametrize(
    "wrong",
    [{"user": ""}, {"user": "a\nb"}, {"user": "a" * 257}, {"target": ""}, {"ttl": 0.0}, {"ttl": 86_401.0},
     {"ttl": float("nan")}, {"uses": 0}, {"uses": True}, {"window": -1.0}, {"window": float("inf")}, {"extra": 1}],
)  # fmt: skip
def test_an_order_is_checked_and_no_value_is_quoted(wrong):
    with pytest.raises(pydantic.ValidationError) as error:
        TokenOrder(**{"user": "alice", "target": "desktops"} | wrong)
    assert "input_value" not in str(error.value)
