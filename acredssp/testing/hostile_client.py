"""A client that breaks what it likes, by NTLM or Kerberos. `server_attacks` has what it does.

Every attack ends in the same way: the server must not prove its key to a client that has not proven itself. A server
may answer with errorCode, close the connection, or raise.
"""

import contextlib
import secrets
import ssl
from types import TracebackType
from typing import Any, Final, Self

from acredssp.core.binding import client_value
from acredssp.credentials import Password
from acredssp.errors import CredSSPError
from acredssp.mechanisms.kerberos.context import KerberosInitiator
from acredssp.mechanisms.kerberos.tickets import Tickets
from acredssp.mechanisms.ntlm import crypto
from acredssp.mechanisms.ntlm.messages import (
    AuthenticateMessage,
    AvId,
    ChallengeMessage,
    NTLMv2Response,
    decode_av_pairs,
    encode_av_pairs,
    with_mic,
)
from acredssp.names import upper
from acredssp.policy import MechanismChoice
from acredssp.testing.endpoints import ServerEndpoint
from acredssp.testing.links import Channel, Crashed
from acredssp.testing.tokens import check_mechanism, is_negotiated, stepped, token_of
from acredssp.tls import subject_public_key
from acredssp.wire import TSPasswordCreds, TSRequest, spnego, ts_credentials
from acredssp.wire.spnego import NegState, NegTokenInit, NegTokenResp

__all__ = ["NEGOTIATE", "VERSION", "HostileClient"]

VERSION: Final = 6
NEGOTIATE: Final = bytes.fromhex("4e544c4d5353500001000000358208e2000000000000000000000000000000000a007c4f0000000f")
_MIC_FLAG: Final = b"\2\0\0\0"


class HostileClient:
    """A client of one connection, over which a test has every control.

    Args:
        endpoint: The server.
        mechanism: NTLM, Kerberos in SPNEGO (KERBEROS), or Kerberos alone (RAW_KERBEROS).

    Attributes:
        mechanism: The mechanism.
        channel: TLS with the server.
        public_key: The server's SubjectPublicKey.
        account: An account that the server lets in.
        nonce: The nonce of this connection.
        session_key: NTLM's ExportedSessionKey of this connection.
        challenge: The server's CHALLENGE_MESSAGE, once `negotiate` got it; empty before.
        offered: The mechanisms that this client offers in SPNEGO.

    Raises:
        ValueError: `mechanism` leaves the choice open.
    """

    def __init__(self, endpoint: ServerEndpoint, mechanism: MechanismChoice = MechanismChoice.NTLM) -> None:
        check_mechanism(mechanism)
        self.mechanism = mechanism
        self._kerberos = KerberosInitiator(Tickets(endpoint.account), spn=endpoint.spn) if mechanism.kerberos else None
        self._link = endpoint.connect()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.channel = Channel(self._link, context, server_side=False)
        self.account = endpoint.account
        self.public_key = b""
        self.nonce = secrets.token_bytes(32)
        self.session_key = secrets.token_bytes(16)
        self.challenge = b""
        self._challenge: ChallengeMessage
        self.offered: tuple[bytes, ...] = (spnego.KERBEROS,)
        self._ap_req = b""
        self._sealing = crypto.SealingHandle(self.session_key, from_initiator=True)
        self._opening = crypto.SealingHandle(self.session_key, from_initiator=False)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undone:
            undone.callback(self._link.close)
            self.channel.handshake()
            assert self.channel.peer_certificate is not None
            self.public_key = subject_public_key(self.channel.peer_certificate)
            undone.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._link.close()

    def send(self, data: bytes) -> None:
        """Send bytes inside TLS."""
        self.channel.send(data)

    def receive(self) -> TSRequest | None:
        """Return the server's answer; None where there is none that can be read."""
        try:
            return TSRequest.decode(self.channel.receive())
        except CredSSPError:
            return None

    # --- both mechanisms ---

    def first(self) -> bytes:
        """Return an honest client's first token. By Kerberos the call asks the KDC for a ticket.

        Raises:
            CredSSPError: There is no ticket.
        """
        return NEGOTIATE if self._kerberos is None else self.around(self.ap_req())

    def prove(self) -> bytes:
        """Exchange tokens as an honest client does, and return the last one, which goes with pubKeyAuth.

        It is empty by Kerberos, whose only token is sent already.

        Raises:
            Crashed: The server does not go along.
            CredSSPError: There is no ticket.
        """
        if self._kerberos is None:
            self.negotiate()
            return self.authenticate()
        self.present(self.ap_req())
        if not self.takes_reply():
            raise Crashed("the server does not answer a usual AP-REQ with an AP-REP")
        return b""

    # --- Kerberos ---

    def ap_req(self) -> bytes:
        """Return the AP-REQ of this connection, outside of SPNEGO. The first call asks the KDC for a ticket.

        Raises:
            CredSSPError: There is no ticket.
        """
        if not self._ap_req:
            self._ap_req = stepped(self._initiator(), b"")
        return self._ap_req

    def around(self, token: bytes) -> bytes:
        """Return a first token in SPNEGO, which offers `offered`; or as it is without SPNEGO."""
        if not is_negotiated(self.mechanism):
            return token
        return NegTokenInit.encode(spnego.encode_mech_list(self.offered), token)

    def present(self, token: bytes) -> None:
        """Send an AP-REQ, or what stands in its place."""
        self.send(TSRequest(VERSION, nego_token=self.around(token)).encode())

    def takes_reply(self) -> bool:
        """Take the server's AP-REP and mechListMIC, and return whether they are right: it has then taken the AP-REQ."""
        answer, initiator = self.receive(), self._initiator()
        if answer is None or answer.error_code or not answer.nego_token:
            return False
        try:
            stepped(initiator, token_of(answer.nego_token))
            if is_negotiated(self.mechanism) and (mic := NegTokenResp.decode(answer.nego_token).mech_list_mic):
                initiator.verify_mic(spnego.encode_mech_list(self.offered), mic)
        except CredSSPError:
            return False
        return initiator.complete

    def list_mic(self, mechanisms: tuple[bytes, ...]) -> bytes:
        """Return the SPNEGO token with the mechListMIC of these mechanisms, which are `offered` for a right one."""
        mic = self._initiator().get_mic(spnego.encode_mech_list(mechanisms))
        return spnego.encode_resp(NegState.ACCEPT_INCOMPLETE, None, None, mic)

    def _initiator(self) -> KerberosInitiator:
        if self._kerberos is None:
            raise ValueError("this client speaks ntlm: give HostileClient the mechanism kerberos or raw-kerberos")
        return self._kerberos

    # --- NTLM ---

    def negotiate(self, version: int = VERSION) -> None:
        """Send NEGOTIATE, and take the CHALLENGE.

        Raises:
            Crashed: None comes.
        """
        self.send(TSRequest(version, nego_token=NEGOTIATE).encode())
        answer = self.receive()
        if answer is None or not answer.nego_token:
            raise Crashed("the server does not answer a usual NEGOTIATE with a CHALLENGE")
        self.challenge = answer.nego_token
        self._challenge = ChallengeMessage.decode(self.challenge)

    def authenticate(
        self,
        *,
        password: str | None = None,
        announce_mic: bool = True,
        mic: bool = True,
        av_pairs: bytes | None = None,
        flags: int = 0,
        **fields: bytes,
    ) -> bytes:
        """Return an AUTHENTICATE_MESSAGE, right but for what is asked for.

        Args:
            password: Another password than the account's.
            announce_mic: Whether MsvAvFlags announces a MIC.
            mic: Whether the MIC is there; zeros otherwise.
            av_pairs: The encoded AV pairs in place of the right ones.
            flags: Further NegotiateFlags.
            fields: Fields of the message by the names of `AuthenticateMessage`.
        """
        secret = self.account if password is None else Password(password, self.account.user, self.account.domain)
        user, domain = self.account.user.encode("utf-16-le"), self.account.domain.encode("utf-16-le")
        pairs = decode_av_pairs(self._challenge.target_info, "target info")
        if announce_mic:
            pairs[int(AvId.FLAGS)] = _MIC_FLAG
        stamp = pairs.get(int(AvId.TIMESTAMP), bytes(8))
        encoded = encode_av_pairs(pairs) if av_pairs is None else av_pairs
        temp = NTLMv2Response.encode_temp(stamp, secrets.token_bytes(8), encoded)
        key = crypto.hmac_md5(secret.nt_hash, upper(self.account.user).encode("utf-16-le") + domain)
        proof = crypto.nt_proof(key, self._challenge.server_challenge, temp)
        values: dict[str, Any] = {
            "domain": domain,
            "user": user,
            "workstation": b"",
            "lm_response": bytes(24),
            "nt_response": proof + temp,
            "encrypted_session_key": crypto.rc4(crypto.hmac_md5(key, proof), self.session_key),
        }
        message = AuthenticateMessage.encode(self._challenge.flags | flags, **(values | fields))
        if not mic:
            return message
        return with_mic(message, crypto.message_mic(self.session_key, NEGOTIATE, self.challenge, message))

    # --- the end of both ---

    def seal(self, plaintext: bytes) -> bytes:
        """Return bytes sealed by the session's key."""
        return self._sealing.wrap(plaintext) if self._kerberos is None else self._kerberos.wrap(plaintext)

    def key(self, *, public_key: bytes | None = None) -> bytes:
        """Return pubKeyAuth, bound to the server's key or to another one."""
        return self.seal(client_value(VERSION, self.nonce, public_key or self.public_key))

    def last(self, token: bytes, **fields: Any) -> bytes:
        """Return the TSRequest with the last token and pubKeyAuth, with other fields in their place."""
        values: dict[str, Any] = {"pub_key_auth": None, "client_nonce": self.nonce} | fields
        if values["pub_key_auth"] is None:
            values["pub_key_auth"] = self.key()
        return TSRequest(values.pop("version", VERSION), nego_token=token or None, **values).encode()

    def is_let_in(self) -> bool:
        """Whether the server proves its key, which it does for a proven client alone.

        FreeRDP 3 sends a client's own value back to refuse it, so the proof has to be sealed by the session's key.
        """
        answer = self.receive()
        while answer is not None and answer.pub_key_auth is None and answer.nego_token and not answer.error_code:
            answer = self.receive()
        if answer is None or not answer.pub_key_auth or answer.error_code:
            return False
        try:
            (self._kerberos or self._opening).unwrap(answer.pub_key_auth)
        except CredSSPError:
            return False
        return True

    def delegate(self) -> None:
        """Send the account's password, as an honest client does at the end."""
        account = self.account
        plain = ts_credentials.encode(TSPasswordCreds.of(account.domain, account.user, account.password))
        self.send(TSRequest(VERSION, auth_info=self.seal(plain)).encode())

    def expect_refusal(self, what: str) -> None:
        """Fail the test if the server lets this client in."""
        self.channel.hurry()
        if self.is_let_in():
            raise AssertionError(f"the server lets in a client with {what}")
