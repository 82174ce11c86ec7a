"""Frozen values are copied and pickled, interpreted and compiled."""

import ast
import copy
import dataclasses
import pickle

import pytest
from support.build import ROOT, listed
from support.endpoints import client_config, server_config

from acredssp.aio.report import HandshakeReport
from acredssp.core.record_sizes import RecordSizes
from acredssp.core.results import HandshakeInfo
from acredssp.credentials import Account, DelegatedKind
from acredssp.mechanisms.base import Principal
from acredssp.mechanisms.ntlm.acceptor import NTLMIdentity
from acredssp.values import copier

INFO = HandshakeInfo(
    6, "ntlm", Principal("bob", "", known_as=Account("bob")), DelegatedKind.PASSWORD, "TLSv1.3", "x", None, "why"
)
VALUES = [
    INFO,
    HandshakeReport(("192.0.2.7", 1), None, INFO, INFO.principal),
    NTLMIdentity("WS", "CONTOSO", dns_domain="contoso.com"),
    RecordSizes(5, 17, block=16),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, dataclasses.replace, lambda value: pickle.loads(pickle.dumps(value))],  # noqa: S301
    ids=["copy", "deepcopy", "replace", "pickle"],
)
def test_a_copy_has_every_field(value, copied):
    other = copied(value)
    assert type(other) is type(value)
    for field in dataclasses.fields(value):
        assert getattr(other, field.name) == getattr(value, field.name), field.name


@pytest.mark.parametrize("make", [client_config, server_config])
def test_a_copy_of_a_configuration_is_the_same_one(make):
    """It cannot be told apart from another one: nothing in it changes, and an SSLContext cannot be copied."""
    config = make()
    assert copy.copy(config) is config
    assert copy.deepcopy({"of": config})["of"] is config


@pytest.mark.parametrize("path", listed(), ids=str)
def test_every_frozen_value_that_is_compiled_says_how_it_is_copied(path):
    """What mypyc generates assigns to the fields of a frozen value, which is an error."""
    for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8"))):
        if isinstance(node, ast.ClassDef) and any("frozen=True" in ast.unparse(each) for each in node.decorator_list):
            assert {each.name for each in node.body if isinstance(each, ast.FunctionDef)} & {"__copy__", "__reduce__"}


def test_a_copier_copies_the_attributes_that_it_names_and_no_others():
    copied = copier(["netbios_computer", "netbios_domain"])(NTLMIdentity("WS", "CONTOSO", dns_domain="contoso.com"))
    assert type(copied) is NTLMIdentity
    assert (copied.netbios_computer, copied.netbios_domain) == ("WS", "CONTOSO")
    with pytest.raises(AttributeError):
        _ = copied.dns_domain
