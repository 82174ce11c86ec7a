"""Credentials: the values that a client logs on with and delegates, and the answers of a server's `lookup`.

No repr shows a secret, and no method here writes or logs one.
"""

import dataclasses
import enum
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

from acredssp.arguments import expect
from acredssp.md4 import md4
from acredssp.names import logon_name, split_principal, upper, user_alone
from acredssp.status import NTSTATUS

__all__ = [
    "Account",
    "AccountSecret",
    "Candidates",
    "Credential",
    "DelegatedKind",
    "Deny",
    "Keytab",
    "LookupAnswer",
    "NTHash",
    "Nothing",
    "Oracle",
    "Password",
    "RemoteGuard",
    "SmartCard",
    "TicketCache",
    "TicketInfo",
]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Account:
    r"""An account, however its name was written at the logon.

    Two accounts are equal if Windows takes their names for equal: without regard to case, by its own table of letters
    ([MS-UCODEREF] 3.1.5.3). So accounts can be compared, and used in sets and as keys of dictionaries.

    Attributes:
        user: The user's name; empty only where a client sent an empty name. It is not taken apart: the account
            `CONTOSO\alice` without a domain is not the account `alice` of CONTOSO. `acredssp.accounts.Domains` reads
            such names.
        domain: A domain or a Kerberos realm; empty for none.
        key: The values that are compared: domain and user in Windows' upper case, computed once.
    """

    user: str
    domain: str = ""
    key: tuple[str, str] = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        expect("user", self.user, str)
        expect("domain", self.domain, str)
        object.__setattr__(self, "key", (upper(self.domain), upper(self.user)))

    def __eq__(self, other: object) -> bool:
        return self.key == other.key if isinstance(other, Account) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        return logon_name(self.domain, self.user)

    @property
    def user_alone(self) -> str:
        r"""The user in Windows' upper case, without any domain that is written into the name: `BOB` of `A\B\bob@C`.

        Different accounts may have it in common. It is what wrong passwords are counted by, since spellings that some
        software takes for the same account have the same one.
        """
        return upper(user_alone(self.user))


class _Unsaid(str):
    """The domain where the caller gave none: an empty text that differs from an empty one that the caller gave."""

    __slots__ = ()


_UNSAID: Final[str] = _Unsaid()


def _domain_apart(user: str, domain: str) -> str:
    r"""Return the domain, after a check that the user's name has no domain in front.

    People write `CONTOSO\alice` in one field. Sent as a user's name it matches no account, and a right password would
    look like a wrong one.

    Raises:
        ValueError: The user has a domain in front, and the caller did not give `domain=""`.
    """
    expect("user", user, str)
    expect("domain", domain, str)
    if domain and "\\" in user:
        raise ValueError(
            "user: expected a name without a domain in front, since there is a domain too, got a backslash: "
            "give the domain by domain=... alone"
        )
    if domain is not _UNSAID:
        return domain
    if "\\" in user:
        raise ValueError(
            "user: expected a name without a domain in front, got a backslash: give the domain by domain=..., "
            "or domain='' to send the user as it is"
        )
    return ""


@dataclasses.dataclass(frozen=True, slots=True)
class Password:
    r"""A password and its account.

    A client must name the account. A server's lookup may name it: that is then the account of the logon, however the
    client wrote the name (`Principal.account`).

    Attributes:
        password: Any text. Windows' passwords are UTF-16 code units of any value, so lone surrogates are allowed. Only
            Kerberos, which uses UTF-8, cannot log on with them.
        user: The account's name, or a user principal name (`bob@contoso.com`, with an empty domain).
        domain: The account's domain; empty by default. A user with a backslash in it (`CONTOSO\bob`) is a ValueError,
            unless `domain=""` is given, which sends the user as it is, for servers that want `AzureAD\bob@contoso.com`.
        nt_hash: The MD4 of the password in UTF-16LE, 16 bytes, computed once, since every logon needs it
            ([MS-NLMP] 3.3.2).
    """

    password: str = dataclasses.field(repr=False)
    user: str = ""
    domain: str = _UNSAID
    nt_hash: bytes = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        expect("password", self.password, str)
        object.__setattr__(self, "domain", _domain_apart(self.user, self.domain))
        object.__setattr__(self, "nt_hash", md4(self.password.encode("utf-16-le", "surrogatepass")))

    def of_account(self, user: str, domain: str = _UNSAID) -> "Password":
        """Return the same password of another account, with the rules of `user` and `domain`; its hash is known."""
        other, assign = object.__new__(Password), object.__setattr__
        assign(other, "password", self.password)
        assign(other, "user", user)
        assign(other, "domain", _domain_apart(user, domain))
        assign(other, "nt_hash", self.nt_hash)
        return other


@dataclasses.dataclass(frozen=True, slots=True)
class NTHash:
    """An NT hash in place of the password. A client can log on with it, but cannot delegate it.

    Attributes:
        nt_hash: The hash, 16 bytes.
        user: The account's name, with the rules of `Password.user`.
        domain: The account's domain, with the rules of `Password.domain`.
    """

    nt_hash: bytes = dataclasses.field(repr=False)
    user: str = ""
    domain: str = _UNSAID

    def __post_init__(self) -> None:
        expect("nt_hash", self.nt_hash, bytes)
        object.__setattr__(self, "domain", _domain_apart(self.user, self.domain))
        if len(self.nt_hash) != 16:
            raise ValueError(f"nt_hash: expected 16 bytes, got {len(self.nt_hash)}")


class _OfPrincipal:
    """A credential whose account is named by a Kerberos principal."""

    __slots__ = ()
    principal: str

    @property
    def user(self) -> str:
        """The user of `principal`; empty where `principal` is empty."""
        return split_principal(self.principal)[0]

    @property
    def domain(self) -> str:
        """The realm of `principal`; empty where `principal` has none."""
        return split_principal(self.principal)[1]


@dataclasses.dataclass(frozen=True, slots=True)
class TicketCache(_OfPrincipal):
    """The Kerberos tickets of a user who has logged on already. A client can log on with them, but not delegate them.

    The tickets that a logon fetches are added to the cache, as by every Kerberos client. No ticket is replaced.

    Attributes:
        name: The name of the cache, such as `FILE:/tmp/krb5cc_1000` or `KCM:1000`; empty for the user's own cache. On
            Windows it must be empty.
        principal: The owner of the tickets to use, such as `alice@CONTOSO.COM`, where the cache is a collection; empty
            for the tickets that fit the server.
    """

    name: str = ""
    principal: str = ""

    def __post_init__(self) -> None:
        expect("name", self.name, str)
        expect("principal", self.principal, str)


@dataclasses.dataclass(frozen=True, slots=True)
class TicketInfo:
    """What is known of a Kerberos ticket without its keys (`ClientConfig.list_tickets()`).

    Attributes:
        client: The principal whose ticket it is.
        server: The service that it is for; `krbtgt/REALM@REALM` for a ticket-granting ticket.
        session_enctype: The encryption type of the key that client and service share, such as
            `aes256-cts-hmac-sha1-96` (RFC 3961 8).
        ticket_enctype: That of the service's own key, with which the KDC has sealed the ticket.
        ends: When it ends, in seconds since 1970.
        forwardable: Whether a ticket of the user may be made from it for another host.
    """

    client: str
    server: str
    session_enctype: str
    ticket_enctype: str
    ends: int
    forwardable: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Keytab(_OfPrincipal):
    """A file of Kerberos keys. A client logs on by a key in place of a password. A server decrypts tickets by a key.

    Attributes:
        name: A path, or `FILE:path`, `MEMORY:name`; empty for the machine's own (`/etc/krb5.keytab`, KRB5_KTNAME).
        principal: Client: the owner of the key to use; empty for the first one in the keytab. Server: the only service
            for which tickets are accepted, such as `TERMSRV/host@REALM`; empty for all services in the keytab.
        constrained_delegation: Server: whether to ask the KDC for what the server may do in the name of those who log
            on with a ticket (S4U2Proxy). `Principal.tickets` logs on as the user then, at the services that the domain
            lists for this account. `principal` is the account, such as `gateway@REALM`, and the keytab has its key.
    """

    name: str = ""
    principal: str = ""
    constrained_delegation: bool = False

    def __post_init__(self) -> None:
        expect("name", self.name, str)
        expect("principal", self.principal, str)
        expect("constrained_delegation", self.constrained_delegation, bool)
        if self.constrained_delegation and not self.principal:
            raise ValueError("principal: expected the account that delegates, got none")


class DelegatedKind(enum.StrEnum):
    """The kind of credentials that a client delegates, by its name in records, reports and JSON.

    Attributes:
        PASSWORD: A user's name and password.
        SMART_CARD: A smart card's PIN, and where to find its key.
        REMOTE_GUARD: A forwarded Kerberos ticket.
        NOTHING: Three empty strings, as Restricted Admin delegates.
    """

    PASSWORD = "password"  # noqa: S105 - the name of a kind
    SMART_CARD = "smartcard"
    REMOTE_GUARD = "remote_guard"
    NOTHING = "nothing"

    __hash__ = str.__hash__  # Enum's own is slow, being written in Python, and every client's decision needs one


@dataclasses.dataclass(frozen=True, slots=True)
class SmartCard:
    """A smart card's PIN, and where to find its key, to be delegated; not to log on with ([MS-CSSP] 2.2.1.2.2).

    Attributes:
        pin: The card's PIN.
        user: A hint for the server which user logs on.
        domain: A hint for the server which domain the user is in.
        card_name: The card's name; empty for none.
        reader_name: The reader's name; empty for none.
        container_name: The name of the key's container on the card.
        csp_name: The cryptographic service provider, mostly `Microsoft Base Smart Card Crypto Provider`.
        key_spec: 1 is AT_KEYEXCHANGE, 2 is AT_SIGNATURE.
    """

    pin: str = dataclasses.field(repr=False)
    user: str = ""
    domain: str = ""
    card_name: str = ""
    reader_name: str = ""
    container_name: str = ""
    csp_name: str = ""
    key_spec: int = 1

    def __post_init__(self) -> None:
        for name in ("pin", "user", "domain", "card_name", "reader_name", "container_name", "csp_name"):
            expect(name, getattr(self, name), str)
        expect("key_spec", self.key_spec, int)


@dataclasses.dataclass(frozen=True, slots=True)
class RemoteGuard:
    """Remote Credential Guard: it delegates a forwarded Kerberos ticket of the user in place of a password.

    The logon itself is then by Kerberos, with a forwardable ticket. For a password or a keytab such a ticket is asked
    for; a ticket cache must have one already (`kinit -f`). The delegated ticket is sealed so that only the server's
    host can open it ([MS-CSSP] 2.2.1.2.3.1, KERB_TICKET_LOGON).

    Attributes:
        service: The service class of the server's host whose key seals the ticket. `HOST` is the computer's account.
    """

    service: str = "HOST"

    def __post_init__(self) -> None:
        expect("service", self.service, str)
        if not self.service or "/" in self.service:
            raise ValueError("service: expected a service class without a slash, such as HOST, got another text")


@dataclasses.dataclass(frozen=True, slots=True)
class Nothing:
    """Delegates nothing: the client sends three empty strings, as Restricted Admin does ([MS-CSSP] 2.2.1.2.1)."""


AccountSecret: TypeAlias = Password | NTHash
"""The secret of an account, which an NTLM logon proves."""

Credential: TypeAlias = Password | NTHash | TicketCache | Keytab
"""A credential that a client can log on with: by NTLM or Kerberos with a password, by NTLM with an NT hash, and by
Kerberos with the others."""


@dataclasses.dataclass(frozen=True, slots=True)
class Candidates:
    """Several secrets, any of which may be right, as while a password is rotated, or for an account in two domains.

    All secrets are tried, even after one fits, and each takes the same time. A lookup should return the same number of
    secrets for every name, unknown names included (`Deny.secret`): else the time tells how many a name has.

    Attributes:
        secrets: The secrets to try; the first one that fits counts. An empty sequence is for an account without a
            secret, to which nobody can log on by NTLM.
    """

    secrets: Sequence[AccountSecret]

    def __post_init__(self) -> None:
        expect("secrets", self.secrets, tuple, list)
        for secret in self.secrets:
            expect("secrets", secret, Password, NTHash)
        object.__setattr__(self, "secrets", tuple(self.secrets))


@dataclasses.dataclass(frozen=True, slots=True)
class Oracle:
    """A verifier that does not give the secret away, such as a domain controller or a vault.

    `verify` gets an `acredssp.hooks.NTLMExchange`, and returns the 16-byte session base key or `Deny`. It may be a
    plain function or a coroutine function. Where it knows that the password was right, but the account may not log on,
    it returns `Deny(status, proven=True)`.

    Attributes:
        verify: The function that proves the logon.
        user: The user of the account that logs on; empty for the name that the client wrote.
        domain: The domain of that account.
    """

    verify: Callable[[Any], "bytes | Deny | Awaitable[bytes | Deny]"] = dataclasses.field(repr=False)
    user: str = ""
    domain: str = ""

    def __post_init__(self) -> None:
        if not callable(self.verify):
            raise TypeError(f"verify: expected a function, got {type(self.verify).__name__}")
        expect("user", self.user, str)
        expect("domain", self.domain, str)


@dataclasses.dataclass(frozen=True, slots=True)
class Deny:
    """The answer of a hook that refuses a logon.

    The status of a `lookup` or an `Oracle` reaches the peer only if the peer proved the password, or if the status
    is not about the account (STATUS_NO_LOGON_SERVERS). Otherwise the peer sees STATUS_LOGON_FAILURE. Give `secret` too,
    so that a client that knows the password is told, for example, that the account is disabled.

    Attributes:
        nt_status: The status for the client, where it may know it.
        secret: The account's secret, or random ones in its place. A refusal takes the time of trying these secrets, or
            of one where there are none. Where accounts have two secrets, refuse unknown names with
            `Deny(secret=Candidates([NTHash(os.urandom(16))] * 2))`, made once.
        proven: Whether an `Oracle` found the password right. It counts in an oracle's answer alone, since no other hook
            can know.
        account: The account that `authorize` or `admit` refuses, for the report and the log; the peer is not told of
            it. None for the account that was found before. In the answer of `lookup` or an `Oracle` it is ignored,
            since no logon is proven.
    """

    nt_status: NTSTATUS = NTSTATUS.STATUS_LOGON_FAILURE
    secret: "AccountSecret | Candidates | None" = dataclasses.field(default=None, repr=False)
    proven: bool = False
    account: Account | None = None

    def __post_init__(self) -> None:
        expect("nt_status", self.nt_status, NTSTATUS)
        if int(self.nt_status) < 0x80000000:
            raise ValueError(f"nt_status: expected the status of a failure, got {self.nt_status}")
        expect("secret", self.secret, Password, NTHash, Candidates, None)
        expect("proven", self.proven, bool)
        expect("account", self.account, Account, None)


LookupAnswer: TypeAlias = Password | NTHash | Candidates | Oracle | Deny
"""The answers that a lookup may give; any other answer counts as `Deny()`."""
