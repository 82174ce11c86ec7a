"""What `acredssp.sspi` offers, and that each of it says what it is."""

import dataclasses
import enum
import inspect
import subprocess
import sys

from acredssp import sspi

FUNCTIONS = [name for name in sspi.__all__ if inspect.isfunction(getattr(sspi, name)) and name[0].isupper()]


def test_every_name_is_there_and_says_what_it_is():
    assert sorted(set(sspi.__all__)) == sorted(sspi.__all__)
    for name in sspi.__all__:
        value = getattr(sspi, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), name


def test_every_function_is_a_coroutine_function():
    assert FUNCTIONS
    assert all(inspect.iscoroutinefunction(getattr(sspi, name)) for name in FUNCTIONS)


def test_every_parameter_may_be_given_by_keyword():
    for name in FUNCTIONS:
        kinds = {parameter.kind for parameter in inspect.signature(getattr(sspi, name)).parameters.values()}
        assert kinds == {inspect.Parameter.POSITIONAL_OR_KEYWORD}, name


def test_structures_and_flags_are_told_apart_from_functions():
    for name in set(sspi.__all__) - set(FUNCTIONS):
        value = getattr(sspi, name)
        if inspect.isclass(value) and issubclass(value, enum.Enum):
            assert all(isinstance(member.value, int) for member in value), name
        elif inspect.isclass(value):
            assert dataclasses.is_dataclass(value) or value.__module__.startswith("acredssp."), name


def test_a_type_checker_knows_the_constants_in_full(tmp_path):
    source = tmp_path / "caller.py"
    source.write_text(
        "from acredssp.sspi import ISC_REQ, ISC_REQ_DELEGATE, SECBUFFER_TOKEN, SecBuffer\n"
        "wanted: ISC_REQ = ISC_REQ_DELEGATE\n"
        "SecBuffer(SECBUFFER_TOKEN, b'')\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", str(source)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
