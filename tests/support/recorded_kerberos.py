"""Either end of a recorded Kerberos logon as a mechanism: the tokens of the recording, the seals by the RFCs' oracle.

A recording cannot be logged on with again (its authenticator is past its time), but everything behind the AP-REP
follows from the keys: with the recorded confounders each sealed byte must come out as it was recorded.
"""

import dataclasses
import functools

from support import rfc4120, rfc4121
from support.rfc3961 import Key
from vectors.load import captures

from acredssp.mechanisms.base import Principal
from acredssp.wire import spnego
from acredssp.wire.spnego import NegTokenInit, NegTokenResp, TokenKind


def logons():
    """The recordings in which Kerberos authenticated."""
    return [capture for capture in captures("*krb*") if capture.get("session_key")]


@dataclasses.dataclass(frozen=True)
class Tokens:
    """The mechanism's tokens of a recording, without SPNEGO."""

    optimistic: bytes | None
    """The initiator's first one, where it is no AP-REQ: a user-to-user TGT-REQ."""
    ap_req: bytes
    ap_rep: bytes
    mech_list: bytes | None
    """mechTypes as sent; None without SPNEGO."""
    mics: dict
    """{direction: mechListMIC}."""

    @property
    def offered(self):
        return NegTokenInit.decode(NegTokenInit.encode(self.mech_list, b"")).mech_types


@functools.cache
def tokens_of(capture):
    """Read a recording by our own parsers."""
    found, mech_list, mics = {}, None, {}
    for message in capture.messages:
        for text in message.decoded["nego_tokens"] or ():
            token = bytes.fromhex(text)
            match spnego.token_kind(token):
                case TokenKind.SPNEGO_INIT:
                    init = NegTokenInit.decode(token)
                    mech_list, token = init.mech_list, init.mech_token
                case TokenKind.SPNEGO_RESP:
                    response = NegTokenResp.decode(token)
                    token = response.response_token
                    if response.mech_list_mic is not None:
                        mics[message.direction] = response.mech_list_mic
            if token:
                found.setdefault(_token_id(token), token)
    ap_req, ap_rep = found.pop(rfc4120.AP_REQ_TOKEN), found.pop(rfc4120.AP_REP_TOKEN)
    return Tokens(next(iter(found.values()), None), ap_req, ap_rep, mech_list, mics)


def _token_id(token):
    """TOK_ID: the two bytes behind the mechanism's object identifier."""
    header = 2 + (token[1] & 0x7F if token[1] > 0x7F else 0)
    end = header + 2 + token[header + 1]
    return token[end : end + 2]


def session_key(capture):
    key = capture.hex("session_key")
    return Key({16: 17, 32: 18}[len(key)], key)


def sealed_messages(capture, direction):
    """The sealed fields that one side sent, opened: {field: Wrapped}."""
    return {
        field: rfc4121.unwrap(session_key(capture), bytes.fromhex(message.decoded[field]))
        for message in capture.messages
        if message.direction == direction
        for field in ("pub_key_auth", "auth_info")
        if message.decoded[field]
    }


class _Recorded:
    """What both ends share. Seals go out as recorded: flags, rotation, sequence number and confounder."""

    name = "kerberos"
    mech_types = (spnego.KERBEROS,)
    needs_mech_list_mic = False
    sends, receives = "", ""

    def __init__(self, capture):
        self.complete = False
        self.principal = Principal(capture.get("client_principal") or "", "")
        self.tokens = tokens_of(capture)
        self._key = session_key(capture)
        self._to_send = list(sealed_messages(capture, self.sends).values())
        self._received = []

    def resume(self, answer):
        raise AssertionError("nothing was asked")

    @property
    def sealing(self):
        return self.wrap, self.unwrap

    def wrap(self, plaintext):
        return rfc4121.wrap(self._key, dataclasses.replace(self._to_send.pop(0), plaintext=plaintext))

    def unwrap(self, sealed):
        wrapped = rfc4121.unwrap(self._key, sealed)
        assert wrapped.sequence not in self._received
        self._received.append(wrapped.sequence)
        return wrapped.plaintext

    def get_mic(self, message):
        return rfc4121.get_mic(self._key, *rfc4121.mic_fields(self.tokens.mics[self.sends]), message)

    def verify_mic(self, message, mic):
        flags, sequence = rfc4121.mic_fields(mic)
        assert mic == rfc4121.get_mic(self._key, flags, sequence, message)
        self._received.append(sequence)


class RecordedAcceptor(_Recorded):
    """The server's end."""

    sends, receives = "s2c", "c2s"

    def step(self, token):
        assert token == self.tokens.ap_req
        self.complete = True
        return self.tokens.ap_rep


class RecordedInitiator(_Recorded):
    """The client's end."""

    sends, receives = "c2s", "s2c"

    def step(self, token):
        if not token:
            return self.tokens.ap_req
        assert token == self.tokens.ap_rep
        self.complete = True
        return b""


class Offered:
    """A mechanism that stands in the list, and that the server must not choose."""

    name = "offered"
    complete = False
    needs_mech_list_mic = False
    principal = None

    def __init__(self, mech_type):
        self.mech_types = (mech_type,)
