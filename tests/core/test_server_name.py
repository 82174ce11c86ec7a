"""The name that a client asks for, and the callbacks that hear of it."""

import ssl

import pytest
from support.engine import pem
from support.tls import TLS12, TLS13, pair

from acredssp import ServerConfig, tls_config
from acredssp.core.server_name import ServerNameNote, note_server_name
from acredssp.core.tls import TLSSession
from acredssp.errors import TLSError
from acredssp.policy import Policy

VERSIONS = pytest.mark.parametrize("policy", [TLS12, TLS13], ids=["tls12", "tls13"])


def context_with(callback):
    context = tls_config.server_context_from_pem(Policy(), *pem("rsa"))
    context.sni_callback = callback
    ServerConfig(ssl_context=context, lookup=lambda request: None)
    return context


@VERSIONS
def test_a_callback_of_the_callers_own_does_not_hide_the_name(policy):
    seen = []
    context = context_with(lambda _object, name, its: seen.append((name, its)))
    _, server = pair(policy, context)
    assert server.server_name == "localhost"
    assert seen == [("localhost", context)]


@VERSIONS
def test_a_name_is_kept_where_the_callback_chooses_another_context(policy):
    other = tls_config.server_context_from_pem(Policy(), *pem("ec"))
    _, server = pair(policy, context_with(lambda ssl_object, *_: setattr(ssl_object, "context", other)))
    assert (server.server_name, server.context) == ("localhost", other)


def test_a_callback_that_was_set_by_the_older_method_is_called_too():
    names = []
    context = tls_config.server_context_from_pem(Policy(), *pem("rsa"))
    context.set_servername_callback(lambda _object, name, _context: names.append(name))
    ServerConfig(ssl_context=context, lookup=lambda request: None)
    _, server = pair(TLS13, context)
    assert (server.server_name, names) == ("localhost", ["localhost"])


def test_a_callback_may_refuse_a_name():
    context = context_with(lambda *_: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME)
    client = TLSSession(tls_config.client_context(Policy()), server_side=False, server_hostname="localhost")
    server = TLSSession(context, server_side=True)
    client.handshake()
    with pytest.raises(TLSError):
        server.handshake(client.output())
    with pytest.raises(TLSError, match="unrecognized name"):
        client.handshake(server.output())


def test_a_note_is_made_once():
    context = context_with(None)
    note = context.sni_callback
    assert isinstance(note, ServerNameNote)
    note_server_name(context)
    assert context.sni_callback is note


def test_a_callback_that_the_caller_puts_around_ours_works():
    names = []
    context = context_with(None)
    ours = context.sni_callback

    def both(*arguments):
        names.append(arguments[1])
        return ours(*arguments)

    context.sni_callback = both
    ServerConfig(ssl_context=context, lookup=lambda request: None)
    _, server = pair(TLS13, context)
    assert (server.server_name, names) == ("localhost", ["localhost"])
