"""A server that breaks what it likes, by NTLM or Kerberos. `client_attacks` has what it does.

Every attack ends in the same way: a client must not send its password to a server that has not proven its key.
"""

import functools
import ssl
from typing import Final

from acredssp.core.binding import server_value
from acredssp.errors import CredSSPError
from acredssp.mechanisms.kerberos.context import KerberosAcceptor
from acredssp.mechanisms.kerberos.tickets import ServiceKeys
from acredssp.mechanisms.ntlm.acceptor import NTLMAcceptor, NTLMIdentity
from acredssp.policy import MechanismChoice, Policy
from acredssp.testing.endpoints import ClientEndpoint
from acredssp.testing.links import Channel, Crashed, Link
from acredssp.testing.tokens import check_mechanism, is_negotiated, stepped, token_of
from acredssp.tls import self_signed, server_context_from_pem, subject_public_key
from acredssp.wire import TSRequest, spnego
from acredssp.wire.spnego import NegState, NegTokenInit, TokenKind

__all__ = ["VERSION", "HostileServer"]

VERSION: Final = 6
_KERBEROS: Final = (spnego.KERBEROS, spnego.KERBEROS_MICROSOFT)


@functools.cache
def _own_certificate() -> tuple[bytes, bytes]:
    return self_signed(["localhost", "127.0.0.1"])


class HostileServer:
    """A server of one connection, over which a test has every control.

    Args:
        link: The connection with the client.
        endpoint: The client.
        certificate: A certificate and its key, in PEM; None for one that is made once in the process.
        mechanism: NTLM, Kerberos in SPNEGO (KERBEROS), or Kerberos alone (RAW_KERBEROS).

    Attributes:
        mechanism: The mechanism.
        channel: TLS with the client.
        public_key: This server's SubjectPublicKey.
        acceptor: NTLM's or Kerberos' context of this connection.
        offered: The mechanisms that the client offers in SPNEGO; empty without SPNEGO.
        mech_list: These as the client encoded them, which a mechListMIC signs.
        chosen: The mechanism of them that this server chooses.
        mic_due: Whether that is not the client's first, so that both sides owe a mechListMIC.
        client_token: The first token of the client's mechanism.
        nonce: The client's nonce, once it has come.
        their_key: The client's pubKeyAuth, once it has come.
        has_password: Whether the client has sent authInfo.

    Raises:
        ValueError: `mechanism` leaves the choice open, or the endpoint has no keytab for Kerberos.
    """

    def __init__(
        self,
        link: Link,
        endpoint: ClientEndpoint,
        certificate: tuple[bytes, bytes] | None = None,
        mechanism: MechanismChoice = MechanismChoice.NTLM,
    ) -> None:
        check_mechanism(mechanism)
        self.mechanism = mechanism
        chain, key = certificate or _own_certificate()
        context = server_context_from_pem(Policy(), chain, key)
        context.num_tickets = 1  # a client that takes turns waits for something behind its Finished
        self.channel = Channel(link, context, server_side=True)
        self.public_key = subject_public_key(ssl.PEM_cert_to_DER_cert(chain.decode()))
        self.acceptor = _acceptor(endpoint, mechanism)
        self.offered: tuple[bytes, ...] = ()
        self.mech_list = b""
        self.chosen = b""
        self.mic_due = False
        self.client_token = b""
        self.nonce: bytes | None = None
        self.their_key = b""
        self.has_password = False
        self._account = endpoint.account

    def send(self, data: bytes) -> None:
        """Send bytes inside TLS."""
        self.channel.send(data)

    def receive(self) -> TSRequest | None:
        """Return the client's next message, and notice what it holds; None where none comes."""
        try:
            request = TSRequest.decode(self.channel.receive())
        except CredSSPError:
            return None
        self.nonce = request.client_nonce or self.nonce
        self.their_key = request.pub_key_auth or self.their_key
        self.has_password = self.has_password or request.auth_info is not None
        return request

    def begin(self) -> bytes:
        """Make the TLS handshake, take the client's first token, and return the right CHALLENGE or AP-REP.

        Raises:
            Crashed: The client does not begin with the mechanism.
            CredSSPError: Its token is not right.
        """
        self.channel.handshake()
        request = self.receive()
        self.client_token = self._mechanism_token((request and request.nego_token) or b"")
        if isinstance(self.acceptor, KerberosAcceptor):
            return stepped(self.acceptor, self.client_token)
        challenge = self.acceptor.step(self.client_token)
        assert isinstance(challenge, bytes)
        return challenge

    def _mechanism_token(self, token: bytes) -> bytes:
        """Return the mechanism's first token, and note what SPNEGO offers."""
        kind = spnego.token_kind(token)
        if is_negotiated(self.mechanism):
            if kind is not TokenKind.SPNEGO_INIT:
                raise Crashed(f"the client does not begin with spnego, but with {kind.name.lower()}: configure it so")
            token = self._negotiated_token(NegTokenInit.decode(token))
            kind = spnego.token_kind(token)
        wanted = TokenKind.KERBEROS if self.mechanism.kerberos else TokenKind.NTLM
        if kind is not wanted:
            raise Crashed(
                f"the client begins with {kind.name.lower()}, not with {wanted.name.lower()}: configure it so"
            )
        return token

    def _negotiated_token(self, offer: NegTokenInit) -> bytes:
        """Return the AP-REQ of an offer; FreeRDP 3 offers user-to-user first, and is asked for Kerberos and a MIC."""
        self.offered, self.mech_list = offer.mech_types, offer.mech_list
        self.chosen = next((each for each in offer.mech_types if each in _KERBEROS), offer.mech_types[0])
        self.mic_due = self.chosen != offer.mech_types[0]
        if not self.mic_due:
            return offer.mech_token or b""
        self.say(spnego.encode_resp(NegState.REQUEST_MIC, self.chosen))
        request = self.receive()
        return token_of((request and request.nego_token) or b"")

    def carried(
        self,
        token: bytes | None,
        *,
        state: int | None = None,
        chosen: bytes | None = None,
        mic: bytes | None = None,
    ) -> bytes:
        """Return a token of the mechanism as the client expects it: in SPNEGO, or as it is.

        Args:
            token: The token; None for none.
            state: negState, in SPNEGO; None for the right one.
            chosen: supportedMech, in SPNEGO; None for the right one.
            mic: A mechListMIC, in SPNEGO; empty for none, None for the right one where one is due.
        """
        if not is_negotiated(self.mechanism):
            return token or b""
        if mic is None and self.mic_due:
            mic = self.acceptor.get_mic(self.mech_list)
        if state is None:
            state = NegState.ACCEPT_INCOMPLETE if self.mic_due else NegState.ACCEPT_COMPLETED
        if chosen is None and not self.mic_due:
            chosen = self.chosen
        return spnego.encode_resp(NegState(state), chosen, token, mic or None)

    def say(self, token: bytes, version: int = VERSION) -> None:
        """Send a token in a TSRequest."""
        self.send(TSRequest(version, nego_token=token).encode())

    def answer(self, token: bytes, version: int = VERSION) -> None:
        """Send a CHALLENGE and take the AUTHENTICATE, or send an AP-REP; then take the client's pubKeyAuth."""
        self.say(self.carried(token), version)
        request = self.receive()
        if isinstance(self.acceptor, NTLMAcceptor) and request is not None and request.nego_token:
            self.acceptor.step(request.nego_token)
            self.acceptor.resume(self._account)
        if not self.their_key and request is not None:
            self.receive()

    def proof(self, *, public_key: bytes | None = None, version: int = VERSION) -> bytes:
        """Return this server's pubKeyAuth, for its own key or for another one."""
        return self.acceptor.wrap(server_value(version, self.nonce, public_key or self.public_key))

    def expect_no_password(self, endpoint: ClientEndpoint, what: str) -> None:
        """Fail the test if the client sends its password, now or before."""
        self.channel.hurry()
        while self.receive() is not None:
            pass
        if self.has_password:
            raise AssertionError(f"the client sends its password to a server with {what}")
        self.channel.close()
        if endpoint.succeeded():
            raise AssertionError(f"the client says that it is logged on to a server with {what}")


def _acceptor(endpoint: ClientEndpoint, mechanism: MechanismChoice) -> NTLMAcceptor | KerberosAcceptor:
    if not mechanism.kerberos:
        return NTLMAcceptor(Policy(), NTLMIdentity("HOSTILE"))
    if endpoint.keytab is None:
        raise ValueError(
            "keytab: expected the service's key in the endpoint, since the attacks are by kerberos; got none"
        )
    return KerberosAcceptor(ServiceKeys(endpoint.keytab))
