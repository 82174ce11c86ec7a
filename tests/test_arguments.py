"""An argument of a wrong type is refused by its name, and never quoted."""

import pytest

from acredssp.arguments import expect


@pytest.mark.parametrize(
    ("value", "kinds"),
    [("text", (str,)), (None, (str, None)), (None, (str, type(None))), (True, (int,)), (1, (str, int))],
)
def test_an_argument_of_one_of_the_types_is_taken(value, kinds):
    expect("name", value, *kinds)


@pytest.mark.parametrize(
    ("value", "kinds", "said"),
    [
        ("c4nary", (int,), "name: expected int, got str"),
        ("c4nary", (int, bytes, None), "name: expected int or bytes or None, got str"),
        (None, (str,), "name: expected str, got NoneType"),
        (b"c4nary", (str, type(None)), "name: expected str or None, got bytes"),
    ],
)
def test_another_type_is_refused_by_the_arguments_name(value, kinds, said):
    with pytest.raises(TypeError) as raised:
        expect("name", value, *kinds)
    assert str(raised.value) == said
