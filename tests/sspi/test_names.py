"""What `acredssp.sspi` offers, and that each of it says what it is."""

import dataclasses
import enum
import inspect
import subprocess
import sys

import pytest

from acredssp import sspi
from acredssp.sspi import constants, flags, macros, statuses, wide

FUNCTIONS = [
    name
    for name in sspi.__all__
    if inspect.isfunction(getattr(sspi, name)) and name[0].isupper() and name not in macros.__all__
]

C_PORT = """
import asyncio

from acredssp.sspi import *


async def main() -> None:
    hCred, ts, hCtxt, attributes = CredHandle(), TimeStamp(), CtxtHandle(), ContextAttributes()
    SecInvalidateHandle(hCred)
    ss: SecurityStatus = await AcquireCredentialsHandleW(
        None, CREDSSP_NAME, SECPKG_CRED_OUTBOUND, None,
        CREDSSP_CRED(
            CredsspSubmitBufferBoth,
            SCHANNEL_CRED(SCHANNEL_CRED_VERSION),
            SEC_WINNT_AUTH_IDENTITY_W(User="alice", Domain="CONTOSO", Password="wonderland"),
        ),
        None, None, hCred, ts,
    )
    if not SEC_SUCCESS(ss) or not SecIsValidHandle(hCred):
        raise SystemExit(ss)
    OutBuffers = [SecBuffer(SECBUFFER_TOKEN)]
    ss = await InitializeSecurityContextW(
        hCred, None, "TERMSRV/host", ISC_REQ_ALLOCATE_MEMORY | ISC_REQ_STREAM | ISC_REQ_MUTUAL_AUTH, 0,
        SECURITY_NATIVE_DREP, None, 0, hCtxt, SecBufferDesc(OutBuffers, SECBUFFER_VERSION), attributes, ts,
    )
    package = SecPkgContext_PackageInfoW()
    failed = await QueryContextAttributesW(hCtxt, SECPKG_ATTR_NEGOTIATION_PACKAGE, package)
    print(ss == SEC_I_CONTINUE_NEEDED, OutBuffers[0].cbBuffer > 0, FAILED(failed), failed == SEC_E_INVALID_HANDLE,
          await DeleteSecurityContext(hCtxt) == SEC_E_OK, await FreeCredentialsHandle(hCred) == SEC_E_OK,
          ts.QuadPart >= 0)


asyncio.run(main())
"""
"""Everything by the name that it has in C, and nothing imported by name."""


def test_every_name_is_there_and_says_what_it_is():
    assert sorted(set(sspi.__all__)) == sorted(sspi.__all__)
    for name in sspi.__all__:
        value = getattr(sspi, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), name


def public(module):
    """The names that a module defines for `acredssp.sspi`, as a star takes them."""
    families = {name for name, value in vars(flags).items() if inspect.isclass(value)}
    return {name for name in vars(module) if name[0] != "_"} - {"Final", "SecurityStatus"} - families


def test_a_star_gives_what_c_code_has_after_its_includes():
    taken = {}
    exec("from acredssp.sspi import *", taken)  # noqa: S102 - the one way to see what it gives
    assert set(taken) - {"__builtins__"} == set(sspi.__all__)
    assert public(constants) | public(statuses) | set(macros.__all__) <= set(taken)
    assert {name for name in vars(wide) if name.endswith("W")} <= set(taken)
    modules = [name for name, value in taken.items() if inspect.ismodule(value) and name != "__builtins__"]
    assert modules == []


def test_every_status_has_its_flat_name():
    named = {name: value for name, value in vars(statuses).items() if isinstance(value, sspi.SecurityStatus)}
    second = {"SEC_E_NOT_SUPPORTED": sspi.SEC_E_UNSUPPORTED_FUNCTION, "SEC_E_NO_SPM": sspi.SEC_E_INTERNAL_ERROR}
    assert named == dict(sspi.SecurityStatus.__members__) | second


@pytest.mark.parametrize("name", [name for name in vars(wide) if name.endswith("W")])
def test_a_name_with_a_w_is_the_one_without(name):
    assert getattr(sspi, name) is getattr(sspi, name.removesuffix("W").removesuffix("_"))


@pytest.fixture(scope="module")
def c_port(tmp_path_factory):
    source = tmp_path_factory.mktemp("port") / "port.py"
    source.write_text(C_PORT, encoding="utf-8")
    return source


def test_a_port_of_c_code_runs_with_a_star_alone(c_port):
    ran = subprocess.run([sys.executable, str(c_port)], capture_output=True, text=True, check=False)
    assert (ran.stdout.split(), ran.stderr) == (["True"] * 7, "")


def test_a_type_checker_knows_what_a_star_gives(c_port):
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", str(c_port)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


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
