"""Any order of calls, on many handles, by several threads: a model knows which statuses are right."""

import asyncio
import threading

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule
from support.records import decrypt, joined, plain
from support.sspi import OK, Client, Server, held, inbound, outbound

from acredssp.sspi import (
    SECBUFFER_TOKEN,
    SECPKG_ATTR_NAMES,
    AcceptSecurityContext,
    DeleteSecurityContext,
    EncryptMessage,
    FreeCredentialsHandle,
    InitializeSecurityContext,
    QueryContextAttributes,
    SecBuffer,
    SecBufferDesc,
    SecPkgContext_Names,
    SecurityStatus,
)
from acredssp.sspi.handles import Use

INVALID_HANDLE = SecurityStatus.SEC_E_INVALID_HANDLE
SIDES = st.sampled_from(["client", "server"])
SIZES = st.sampled_from([0, 1, 5, 100])
PATIENCE = 60
"""Seconds after which a thread that hangs fails the test."""


class Pair:
    """Two contexts for each other, and what the model knows of them.

    Attributes:
        ends: The callers, by side.
        wires: The bytes on the way to each side.
        begun: The sides that have a context.
        deleted: The sides whose context is deleted.
        broken: The sides that were given rubbish, or have failed: neither may be established by anything later.
    """

    def __init__(self, client, server):
        self.ends = {"client": client, "server": server}
        self.wires = {"client": b"", "server": b""}
        self.begun, self.deleted, self.broken, self.spoilt = set(), set(), set(), set()

    def established(self, side):
        return side not in self.deleted and self.ends[side].status is OK

    def alive(self, side):
        return side in self.begun and side not in self.deleted


def other(side):
    return "server" if side == "client" else "client"


class Calls(RuleBasedStateMachine):
    """The rules are calls. Each checks the status that the model expects."""

    clients, servers, pairs = Bundle("clients"), Bundle("servers"), Bundle("pairs")

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.all, self.freed = [], []

    def teardown(self):
        for pair in self.all:
            for side in pair.ends:
                if pair.alive(side):
                    assert self.run(DeleteSecurityContext(pair.ends[side].handle)) is OK
        self.runner.close()

    def run(self, coroutine):
        return self.runner.run(coroutine)

    def elsewhere(self, *coroutines):
        """Run each in a thread of its own, all at once; return what they returned."""
        results = [None] * len(coroutines)

        def work(number, coroutine):
            results[number] = asyncio.run(coroutine)

        threads = [threading.Thread(target=work, args=each, daemon=True) for each in enumerate(coroutines)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a thread hangs"
        return results

    # --- credentials ---

    @initialize(target=clients)
    def acquire_outbound_first(self):
        return self.run(outbound())

    @initialize(target=servers)
    def acquire_inbound_first(self):
        return self.run(inbound())

    @rule(target=clients)
    def acquire_outbound(self):
        return self.run(outbound())

    @rule(target=servers)
    def acquire_inbound(self):
        return self.run(inbound())

    @rule(client=consumes(clients))
    def free_outbound(self, client):
        self.free(client)

    @rule(server=consumes(servers))
    def free_inbound(self, server):
        self.free(server)

    def free(self, handle):
        assert self.run(FreeCredentialsHandle(handle)) is OK
        assert self.run(FreeCredentialsHandle(handle)) is INVALID_HANDLE
        self.freed.append(handle)

    # --- contexts ---

    @initialize(target=pairs, whole=st.booleans())
    def open_first(self, whole):
        return self.open(self.run(outbound()), self.run(inbound()), whole)

    @rule(target=pairs, client=clients, server=servers, whole=st.booleans())
    def open_next(self, client, server, whole):
        return self.open(client, server, whole)

    def open(self, client, server, whole):
        pair = Pair(Client(client), Server(server))
        self.all.append(pair)
        if whole:
            self.shake_hands(pair)
        return pair

    @rule(pair=pairs, side=SIDES, size=SIZES, elsewhere=st.booleans())
    def go_on(self, pair, side, size, elsewhere):
        """Make the next call of a side with some of the bytes that wait for it; 0 is all of them."""
        end = pair.ends[side]
        if side in pair.deleted or end.done or (pair.alive(side) and not pair.wires[side]):
            return
        if side == "server" and not pair.wires[side]:
            return
        freed = end.credential in self.freed
        piece = pair.wires[side][: size or None]
        pair.wires[side] = pair.wires[side][len(piece) :]
        work = end.feed(piece) if pair.alive(side) or side == "server" else self.first(end)
        tokens = self.elsewhere(work)[0] if elsewhere else self.run(work)
        if end.handle.valid:
            pair.begun.add(side)
        if freed and side not in pair.begun:
            assert end.status is INVALID_HANDLE, "a context is made of credentials that are freed"
        pair.wires[other(side)] += b"".join(tokens)
        self.note(pair, side)

    async def first(self, end):
        return [await end.call()]

    def note(self, pair, side):
        """Check that nothing but an honest and whole handshake establishes a context."""
        end = pair.ends[side]
        if end.status is OK:
            assert not pair.spoilt, "established although bytes were rubbish"
        elif end.done:
            assert end.error is not None, "a failure without a reason"
            pair.broken.add(side)

    @rule(pair=pairs)
    def shake_hands(self, pair):
        """Let both sides talk to the end, where nobody is in the way."""
        for _ in range(20):
            for side in ("client", "server"):
                self.go_on(pair, side, 0, elsewhere=False)
        hindered = pair.deleted or pair.spoilt or pair.broken
        if not hindered and not any(end.credential in self.freed for end in pair.ends.values()):
            assert [end.status for end in pair.ends.values()] == [OK, OK]

    @rule(pair=pairs, side=SIDES, data=st.binary(min_size=6, max_size=40))
    def call_with_rubbish(self, pair, side, data):
        end = pair.ends[side]
        if not pair.alive(side) or end.done or end.received:
            return
        self.run(end.call(b"\x14" + data))
        pair.spoilt.add(side)
        if not end.status.failed or end.status is SecurityStatus.SEC_E_INCOMPLETE_MESSAGE:
            pair.wires[side] = b""
        self.note(pair, side)

    @rule(pair=pairs, side=SIDES)
    def call_once_more(self, pair, side):
        """A call on a context that is established, has failed or is deleted fails, and changes nothing."""
        end = pair.ends[side]
        if side not in pair.begun or (pair.alive(side) and not end.done):
            return
        before = end.handle.valid
        output = SecBufferDesc([SecBuffer(SECBUFFER_TOKEN, bytearray(20_000))])
        given = SecBufferDesc([SecBuffer(SECBUFFER_TOKEN, b"\x16\3\3\0\1a")])
        call = InitializeSecurityContext if side == "client" else AcceptSecurityContext
        status = self.run(
            call(phCredential=end.credential, phContext=end.handle, pInput=given, fContextReq=end.flags, pOutput=output)
        )
        assert status.failed
        assert status is INVALID_HANDLE or pair.alive(side)
        assert end.handle.valid is before

    @rule(pair=pairs, side=SIDES, elsewhere=st.booleans())
    def delete(self, pair, side, elsewhere):
        handle = pair.ends[side].handle
        work = DeleteSecurityContext(handle)
        status = self.elsewhere(work)[0] if elsewhere else self.run(work)
        assert status is (OK if side in pair.begun else INVALID_HANDLE)  # to delete twice is no failure
        if pair.alive(side):
            pair.deleted.add(side)

    @rule(pair=pairs, side=SIDES)
    def delete_in_flight(self, pair, side):
        """While another call is in flight, the context is not deleted, and goes on."""
        handle = pair.ends[side].handle
        if not pair.alive(side):
            return
        with held(handle.state, Use.ENCRYPT):
            assert self.run(DeleteSecurityContext(handle)) is INVALID_HANDLE
        assert handle.valid

    @rule(pair=pairs, side=SIDES)
    def delete_at_once_with_a_message(self, pair, side):
        """Two threads at once, one of which deletes: whoever comes second is refused, or finds nothing."""
        handle = pair.ends[side].handle
        if not pair.established(side):
            return
        sent = plain(b"at once")
        encrypted, deleted = self.elsewhere(EncryptMessage(handle, 0, sent, 0), DeleteSecurityContext(handle))
        assert {encrypted, deleted} <= {OK, INVALID_HANDLE}
        assert OK in {encrypted, deleted}
        assert handle.valid is (deleted is not OK)
        pair.spoilt.add("messages")  # a record may be missing now
        if deleted is OK:
            pair.deleted.add(side)

    # --- messages and facts ---

    @rule(pair=pairs, side=SIDES, data=st.binary(min_size=1, max_size=50))
    def send(self, pair, side, data):
        end, peer = pair.ends[side], pair.ends[other(side)]
        message = plain(data)
        status = self.run(EncryptMessage(end.handle, 0, message, 0))
        if not pair.established(side):
            assert status.failed
            return
        assert status is OK
        if pair.established(other(side)) and "messages" not in pair.spoilt and not pair.wires[other(side)]:
            sent = joined(message)
            status, got = self.run(decrypt(peer, bytes(peer.received) + sent))
            peer.received = b""
            assert (status, bytes(got.pBuffers[1])) == (OK, data)
        else:
            pair.spoilt.add("messages")

    @rule(pair=pairs, side=SIDES)
    def ask_for_the_names(self, pair, side):
        names = SecPkgContext_Names()
        status = self.run(QueryContextAttributes(pair.ends[side].handle, SECPKG_ATTR_NAMES, names))
        if pair.established(side):
            assert status is OK
            assert names.sUserName == "CONTOSO\\bob"
        else:
            assert status.failed
            assert not names.sUserName

    @invariant()
    def handles_are_valid_from_the_first_call_to_the_deletion(self):
        for pair in self.all:
            for side, end in pair.ends.items():
                assert end.handle.valid is pair.alive(side)

    @invariant()
    def handles_of_several_contexts_differ(self):
        numbers = [end.handle.dwLower for pair in self.all for side, end in pair.ends.items() if side in pair.begun]
        assert len(numbers) == len(set(numbers))


Calls.TestCase.settings = settings(
    max_examples=min(100, settings.default.max_examples),  # fewer in a quick run
    stateful_step_count=30,
    derandomize=True,  # the same calls in every run
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestCalls = Calls.TestCase
