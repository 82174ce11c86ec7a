"""Threads: any of them may make the next call on a context, and only two calls at once are refused."""

import asyncio
import threading
import types

import pytest
from support.records import decrypt, encrypt, joined, plain, query, sealed
from support.sspi import CONTINUE, OK, held, inbound, outbound, pair, talk

from acredssp.core.tls import TLSSession
from acredssp.errors import LocalProtocolError
from acredssp.sspi import (
    SECPKG_ATTR_NAMES,
    SECPKG_ATTR_PACKAGE_INFO,
    DecryptMessage,
    DeleteSecurityContext,
    EncryptMessage,
    FreeCredentialsHandle,
    InitializeSecurityContext,
    QueryContextAttributes,
    SecBuffer,
    SecBufferDesc,
    SecPkgContext_Names,
    SecPkgContext_PackageInfo,
    SecurityStatus,
)
from acredssp.sspi.handles import ContextState, Use
from acredssp.sspi.session_cache import SessionCache
from acredssp.sspi.target import Target

INVALID_HANDLE = SecurityStatus.SEC_E_INVALID_HANDLE
PATIENCE = 60
"""Seconds after which a thread that hangs fails the test."""


class Elsewhere(threading.Thread):
    """A thread that runs one coroutine under an event loop of its own."""

    def __init__(self, coroutine):
        super().__init__(daemon=True)
        self._coroutine = coroutine
        self._result = self._error = None
        self.start()

    def run(self):
        try:
            self._result = asyncio.run(self._coroutine)
        except BaseException as error:  # noqa: BLE001 - raised again by `end`
            self._error = error

    def end(self):
        """What the coroutine returned or raised."""
        self.join(PATIENCE)
        assert not self.is_alive(), "the thread hangs"
        if self._error is not None:
            raise self._error
        return self._result


def elsewhere(coroutine):
    """The result of a coroutine that a thread of its own runs."""
    return Elsewhere(coroutine).end()


async def contexts():
    client, server = await pair()
    await talk(client, server)
    assert (client.status, server.status) == (OK, OK)
    return client, server


def data_of(message):
    return bytes(message.pBuffers[1])


# --- one call after the other ---


@pytest.mark.requirement("R11a", "A6")
def test_every_call_may_come_from_another_thread():
    client, server = elsewhere(pair())
    token = elsewhere(client.call())
    while not (client.done and server.done):
        answer = elsewhere(server.call(token))
        assert server.status in (OK, CONTINUE), server.error
        if not client.done:
            token = elsewhere(client.call(answer))
            assert client.status in (OK, CONTINUE), client.error
    record = elsewhere(encrypt(client, b"hello"))
    status, message = elsewhere(decrypt(server, record))
    assert (status, data_of(message)) == (OK, b"hello")
    assert elsewhere(query(server, SECPKG_ATTR_NAMES, SecPkgContext_Names())).sUserName == "CONTOSO\\bob"
    for end in (client, server):
        assert elsewhere(DeleteSecurityContext(end.handle)) is OK
        assert not end.handle.valid


def test_a_context_in_the_middle_of_its_handshake_is_deleted_from_another_thread():
    client, _ = elsewhere(pair())
    elsewhere(client.call())
    assert elsewhere(DeleteSecurityContext(client.handle)) is OK
    assert not client.handle.valid


# --- two calls at once ---


class Door:
    """A context's TLS lock that tells when a second call has come to it."""

    def __init__(self):
        self._lock = threading.Lock()
        self.knocked = threading.Event()

    def __enter__(self):
        if self._lock.locked():
            self.knocked.set()
        self._lock.acquire()

    def __exit__(self, *_):
        self._lock.release()


class Held:
    """Holds EncryptMessage inside TLS until it is let go."""

    def __init__(self, monkeypatch, go):
        self.inside, self.go = threading.Event(), go
        self.writing = False
        write = TLSSession.write

        def wait_and_write(session, plaintext):
            self.writing = True
            self.inside.set()
            assert go.wait(PATIENCE), "nobody lets it go"
            write(session, plaintext)
            self.writing = False

        monkeypatch.setattr(TLSSession, "write", wait_and_write)


@pytest.mark.requirement("D6")
@pytest.mark.interpreted_only("replaces methods of a class")
def test_one_thread_encrypts_while_another_decrypts_and_tls_takes_them_in_turn(monkeypatch):
    client, server = elsewhere(contexts())
    received = sealed(elsewhere(encrypt(server, b"from the server")))
    door = client.handle.state.tls_lock = Door()
    write = Held(monkeypatch, door.knocked)
    read, both_inside = TLSSession.read, []

    def note_and_read(session, ciphertext=b""):
        both_inside.append(write.writing)
        door.knocked.set()
        return read(session, ciphertext)

    monkeypatch.setattr(TLSSession, "read", note_and_read)
    sent = plain(b"from the client")
    encrypting = Elsewhere(EncryptMessage(client.handle, 0, sent, 0))
    assert write.inside.wait(PATIENCE)
    decrypting = Elsewhere(DecryptMessage(client.handle, received))
    assert (decrypting.end(), encrypting.end()) == (OK, OK)
    assert both_inside == [False]
    assert data_of(received) == b"from the server"
    status, message = elsewhere(decrypt(server, joined(sent)))
    assert (status, data_of(message)) == (OK, b"from the client")


@pytest.mark.requirement("R11a", "A6")
@pytest.mark.interpreted_only("replaces methods of a class")
def test_a_second_call_from_another_thread_is_refused_and_the_first_goes_on(monkeypatch):
    client, server = elsewhere(contexts())
    write = Held(monkeypatch, threading.Event())
    sent = plain(b"from the client")
    encrypting = Elsewhere(EncryptMessage(client.handle, 0, sent, 0))
    assert write.inside.wait(PATIENCE)
    empty = SecBufferDesc([SecBuffer()])
    for call in (
        EncryptMessage(client.handle, 0, plain(b"second"), 0),
        InitializeSecurityContext(client.credential, client.handle, pInput=empty),
        DeleteSecurityContext(client.handle),
    ):
        assert elsewhere(call) is INVALID_HANDLE
        assert "in flight" in str(client.handle.error)
    write.go.set()
    assert encrypting.end() is OK
    assert client.handle.valid
    status, message = elsewhere(decrypt(server, joined(sent)))
    assert (status, data_of(message)) == (OK, b"from the client")


async def test_attributes_of_an_established_context_are_not_told_under_a_call_that_establishes():
    client, _ = await contexts()
    with held(client.handle.state, Use.ESTABLISH):
        assert await QueryContextAttributes(client.handle, SECPKG_ATTR_NAMES, SecPkgContext_Names()) is INVALID_HANDLE
        assert "in flight" in str(client.handle.error)
        assert await QueryContextAttributes(client.handle, SECPKG_ATTR_PACKAGE_INFO, SecPkgContext_PackageInfo()) is OK
    with held(client.handle.state, Use.ENCRYPT), held(client.handle.state, Use.DECRYPT):
        assert await QueryContextAttributes(client.handle, SECPKG_ATTR_NAMES, SecPkgContext_Names()) is OK


def test_a_context_that_was_deleted_since_its_handle_was_looked_up_is_not_held():
    state = ContextState()
    state.dispose()
    with pytest.raises(LocalProtocolError, match="has been freed"):
        state.hold(Use.ENCRYPT)


# --- credentials ---


def test_one_credentials_handle_serves_contexts_of_several_threads():
    client_credential, server_credential = elsewhere(outbound()), elsewhere(inbound())

    async def log_on():
        client, server = await pair()
        client.credential, server.credential = client_credential, server_credential
        await talk(client, server)
        return client.status, server.status

    threads = [Elsewhere(log_on()) for _ in range(4)]
    assert [thread.end() for thread in threads] == [(OK, OK)] * 4


def checked(name):
    """The method of `dict`, for who holds the lock."""

    def method(self, *arguments):
        assert self.lock.locked(), name
        return getattr(dict, name)(self, *arguments)

    return method


class Guarded(dict):
    """Entries that nobody touches without the cache's lock."""

    def __init__(self, lock):
        super().__init__()
        self.lock = lock

    pop, get, __iter__ = checked("pop"), checked("get"), checked("__iter__")
    __setitem__, __delitem__ = checked("__setitem__"), checked("__delitem__")


def a_connection():
    session = types.SimpleNamespace(has_ticket=True, id=b"", timeout=300, ticket_lifetime_hint=0, time=1 << 40)
    return types.SimpleNamespace(session=session, version="TLSv1.2")


async def test_the_session_cache_is_for_one_thread_at_a_time():
    credential, target = (await outbound()).state, Target.parse("TERMSRV/localhost")
    cache = SessionCache()
    cache._entries = Guarded(cache._lock)
    cache.keep(credential, target, a_connection())
    assert cache.take(credential, target) is not None
    cache.forget(credential)
    assert cache.take(credential, target) is None


async def test_no_session_is_kept_for_credentials_that_have_been_freed():
    handle, target, cache = await outbound(), Target.parse("TERMSRV/localhost"), SessionCache()
    credential = handle.state
    assert await FreeCredentialsHandle(handle) is OK
    cache.keep(credential, target, a_connection())
    assert len(cache) == 0
