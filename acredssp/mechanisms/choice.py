"""Chooses the mechanism that logs on: NTLM or Kerberos, bare or under SPNEGO, and the one to fall back to.

A configuration makes a choice once, from its credential and its policy. The choice then gives a fresh mechanism for
each connection. It owns what connections share: the NTLM response key, Kerberos tickets and service keys. This module
sends nothing and waits for nothing.

Who calls: `config`.
"""

import functools

from acredssp.credentials import Credential, Keytab, NTHash, Password, RemoteGuard, TicketCache
from acredssp.errors import PolicyError
from acredssp.mechanisms.base import Mechanism
from acredssp.mechanisms.fall_back import FallingBack
from acredssp.mechanisms.kerberos.context import KerberosAcceptor, KerberosInitiator
from acredssp.mechanisms.kerberos.remote_guard import GuardedTicket
from acredssp.mechanisms.kerberos.tickets import ServiceKeys, Tickets, installed, require_installed
from acredssp.mechanisms.negotiate import DetectingAcceptor, NegotiableMechanism, NegotiateInitiator
from acredssp.mechanisms.ntlm.acceptor import NTLMAcceptor, NTLMIdentity
from acredssp.mechanisms.ntlm.initiator import NTLMCredential, NTLMInitiator
from acredssp.policy import MechanismChoice, Policy
from acredssp.status import SecurityStatus, Stage

__all__ = ["AcceptorChoice", "InitiatorChoice"]


class InitiatorChoice:
    """The mechanisms that a client logs on with, chosen by its credential and its policy.

    Args:
        credential: The credential that proves who logs on.
        policy: Which mechanisms are allowed, and which failures of Kerberos let NTLM log on.
        workstation: The name of this machine, for NTLM.
        guard: The delegation by Remote Credential Guard, which needs a logon by Kerberos; None where it is not used.

    Raises:
        PolicyError: No mechanism that the policy allows can use the credential, or Kerberos is needed and not
            installed.
    """

    def __init__(
        self, credential: Credential, policy: Policy, *, workstation: str = "", guard: RemoteGuard | None = None
    ) -> None:
        self._policy = policy
        self._negotiates = policy.mechanism is MechanismChoice.NEGOTIATE
        self._guard = guard
        self.tickets = _tickets(credential, policy.mechanism, guarded=guard is not None)
        """The tickets that Kerberos logs on with; None where Kerberos is not used."""
        self._ntlm_credential: NTLMCredential | None = None
        """The account that NTLM logs on with; None where NTLM cannot be used."""
        if isinstance(credential, Password | NTHash):
            self._ntlm_credential = NTLMCredential(credential, workstation)
        self._ntlm_is_second = policy.mechanism.ntlm and self._ntlm_credential is not None and guard is None
        """Whether NTLM may log on where Kerberos fails."""

    def mechanism(self, spn: str, channel_bindings: bytes | None = None, *, ask_kdc: bool = True) -> Mechanism:
        """Return a fresh initiator for one server.

        Args:
            spn: The server's service principal name.
            channel_bindings: The application data of the bindings (RFC 5929); None for none.
            ask_kdc: Whether to ask a KDC for `spn`; False for an SPN that was made of an IP address.

        Raises:
            PolicyError: Only Kerberos is allowed, and it cannot be used for `spn`.
        """
        if self.tickets is None:
            return self._without_kerberos(spn, channel_bindings)
        return self._with_kerberos(self.tickets, spn, channel_bindings, ask_kdc=ask_kdc)

    def guarded_ticket(self, spn: str) -> GuardedTicket:
        """Return the ticket that Remote Credential Guard delegates to one server, not fetched yet."""
        assert self._guard is not None
        assert self.tickets is not None
        return GuardedTicket(self.tickets, self._guard, spn)

    def _without_kerberos(self, spn: str, channel_bindings: bytes | None) -> Mechanism:
        ntlm = self._ntlm(spn, channel_bindings)
        return NegotiateInitiator([ntlm]) if self._negotiates else ntlm

    def _ntlm(self, spn: str, channel_bindings: bytes | None) -> NTLMInitiator:
        assert self._ntlm_credential is not None
        return NTLMInitiator(self._ntlm_credential, target_name=spn, channel_bindings=channel_bindings)

    def _with_kerberos(self, tickets: Tickets, spn: str, channel_bindings: bytes | None, *, ask_kdc: bool) -> Mechanism:
        if not self._ntlm_is_second:
            kerberos = self._kerberos(tickets, spn, channel_bindings, ask_kdc=ask_kdc)
            bare = self._policy.mechanism is MechanismChoice.RAW_KERBEROS
            return kerberos if bare else NegotiateInitiator([kerberos])
        first: Mechanism | PolicyError
        try:
            kerberos = self._kerberos(tickets, spn, channel_bindings, ask_kdc=ask_kdc)
        except PolicyError as error:
            first = error
        else:
            first = NegotiateInitiator([kerberos, self._ntlm(spn, channel_bindings)])
        second = functools.partial(self._without_kerberos, spn, channel_bindings)
        return FallingBack(first, second, self._policy.fall_back)

    def _kerberos(
        self, tickets: Tickets, spn: str, channel_bindings: bytes | None, *, ask_kdc: bool
    ) -> KerberosInitiator:
        if not ask_kdc:
            raise PolicyError(
                "kerberos: no kdc knows a service by an ip address",
                security_status=SecurityStatus.SEC_E_TARGET_UNKNOWN,
                stage=Stage.NEGO_TOKEN,
                hint="connect to the server's name, or give its spn (--spn)",
            )
        return KerberosInitiator(
            tickets,
            spn=spn,
            channel_bindings=channel_bindings,
            allow_rc4=self._policy.dangerous_allow_kerberos_rc4,
        )


class AcceptorChoice:
    """The mechanisms by which a server lets clients log on.

    Args:
        policy: Which mechanisms are allowed.
        identity: The server's names in NTLM's challenge.
        ntlm: Whether there is a lookup for the accounts' secrets, which NTLM needs.
        keytab: The service's keys, which Kerberos needs; None for none.

    Raises:
        ValueError: No mechanism is left by which a client could log on.
        PolicyError: Kerberos is needed and not installed.
    """

    def __init__(self, policy: Policy, identity: NTLMIdentity, *, ntlm: bool, keytab: Keytab | None) -> None:
        self._policy = policy
        self._identity = identity
        self._takes_ntlm = ntlm and policy.mechanism.ntlm
        self._keys = ServiceKeys(keytab) if keytab is not None and policy.mechanism.kerberos else None
        if not self._takes_ntlm and self._keys is None:
            raise ValueError(
                "nobody can log on: expected a lookup (for ntlm) or a keytab (for kerberos) that Policy.mechanism "
                "allows, got neither"
            )
        if self._keys is not None:
            require_installed()

    def mechanism(self, channel_bindings: bytes | None = None) -> DetectingAcceptor:
        """Return a fresh acceptor for any allowed mechanism that a client begins with.

        Args:
            channel_bindings: The application data of the bindings (RFC 5929); None for none.
        """
        mechanisms: list[NegotiableMechanism] = []
        if self._takes_ntlm:
            mechanisms.append(NTLMAcceptor(self._policy, self._identity, channel_bindings=channel_bindings))
        if self._keys is not None:
            acceptor = KerberosAcceptor(
                self._keys,
                channel_bindings=channel_bindings,
                allow_rc4=self._policy.dangerous_allow_kerberos_rc4,
            )
            mechanisms.append(acceptor)
        return DetectingAcceptor(mechanisms)


def _tickets(credential: Credential, choice: MechanismChoice, *, guarded: bool) -> Tickets | None:
    """Return the tickets for Kerberos to log on with; None where Kerberos is not tried.

    Raises:
        PolicyError: No mechanism that the policy allows can use the credential, or Kerberos is needed and not
            installed.
    """
    tickets_alone = isinstance(credential, TicketCache | Keytab)
    needed = tickets_alone or guarded or not choice.ntlm
    if needed and (isinstance(credential, NTHash) or not choice.kerberos):
        what = "remote credential guard" if guarded else f"a {type(credential).__name__}"
        raise PolicyError(
            f"{what} cannot be used for a logon by {'nt hash' if choice.kerberos else choice.value}",
            security_status=SecurityStatus.SEC_E_NO_CREDENTIALS,
        )
    if isinstance(credential, NTHash) or not choice.kerberos or not (needed or _names_realm(credential)):
        return None
    if needed:
        require_installed()
    return Tickets(credential, forwardable=guarded) if needed or installed() else None


def _names_realm(credential: Password | TicketCache | Keytab) -> bool:
    """Whether a KDC can be found for the account: a realm has a dot in it, a NetBIOS domain has not."""
    realm = credential.domain or credential.user.rpartition("@")[2]
    return "." in realm and (bool(credential.domain) or "@" in credential.user)
