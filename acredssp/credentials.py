"""Credentials: what a client authenticates with, and what a server's `lookup` answers with.

Values only. A secret is in no repr, and no method here writes or logs one.
"""

import dataclasses
import enum
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

from acredssp.arguments import expect
from acredssp.md4 import md4
from acredssp.names import logon_name, split_principal, upper
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
]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Account:
    """Who somebody is, however the name was written at the logon.

    Two accounts are the same where Windows says that their names are: without case, by its own table of letters
    ([MS-UCODEREF] 3.1.5.3). So accounts can be compared, and be kept in sets and as the keys of dictionaries.

    Attributes:
        user: Empty only where a client named nobody.
        domain: A domain or a Kerberos realm; empty for none.
    """

    user: str
    domain: str = ""

    def __post_init__(self) -> None:
        expect("user", self.user, str)
        expect("domain", self.domain, str)

    def __eq__(self, other: object) -> bool:
        return self.key == other.key if isinstance(other, Account) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        return logon_name(self.domain, self.user)

    @property
    def key(self) -> tuple[str, str]:
        """What is compared: domain and user in Windows' upper case."""
        return upper(self.domain), upper(self.user)


class _Unsaid(str):
    """The domain of who says nothing of one: empty, and told from an empty one that was said."""

    __slots__ = ()


_UNSAID: Final[str] = _Unsaid()


def _domain_apart(user: str, domain: str) -> str:
    r"""Return the domain, once the user has none in front.

    `CONTOSO\alice` is how people write both in one field. Sent as a user's name it is nobody's, and a right password
    would look like a wrong one.

    Raises:
        ValueError: The user has one in front, and the domain was not said to be empty.
    """
    expect("user", user, str)
    expect("domain", domain, str)
    if domain and "\\" in user:
        raise ValueError(
            "user: expected a name without a domain in front, since there is a domain, got a backslash: "
            "give one domain, by domain=..."
        )
    if domain is not _UNSAID:
        return domain
    if "\\" in user:
        raise ValueError(
            "user: expected a name without a domain in front, got a backslash: give the domain by domain=..., "
            "or domain='' to send the user as it stands"
        )
    return ""


@dataclasses.dataclass(frozen=True, slots=True)
class Password:
    r"""A password.

    A client names the account with it. A server's lookup may: the logon is by that account then, however the client
    wrote its name (`Principal.account`).

    Attributes:
        password: Any text. Windows' passwords are UTF-16 code units of whatever value, so lone surrogates are taken,
            too; Kerberos alone, which has UTF-8, cannot log on with them.
        user: The account's name, or a user principal name (`bob@contoso.com`, domain empty).
        domain: Left out it is empty. A user with a backslash in it (`CONTOSO\bob`) is a ValueError, whether the domain
            is left out or another one. `domain=""` sends the user as it stands, for servers that want
            `AzureAD\bob@contoso.com`.
        nt_hash: MD4 of the password in UTF-16LE, 16 bytes: computed once, since every logon needs it ([MS-NLMP] 3.3.2).
    """

    password: str = dataclasses.field(repr=False)
    user: str = ""
    domain: str = _UNSAID
    nt_hash: bytes = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        expect("password", self.password, str)
        object.__setattr__(self, "domain", _domain_apart(self.user, self.domain))
        object.__setattr__(self, "nt_hash", md4(self.password.encode("utf-16-le", "surrogatepass")))


@dataclasses.dataclass(frozen=True, slots=True)
class NTHash:
    """An NT hash in place of the password: enough to log on, not enough to delegate.

    Attributes:
        nt_hash: 16 bytes.
        user: The account's name, as with `Password.user`.
        domain: As with `Password.domain`.
    """

    nt_hash: bytes = dataclasses.field(repr=False)
    user: str = ""
    domain: str = _UNSAID

    def __post_init__(self) -> None:
        expect("nt_hash", self.nt_hash, bytes)
        object.__setattr__(self, "domain", _domain_apart(self.user, self.domain))
        if len(self.nt_hash) != 16:
            raise ValueError(f"nt_hash: an NT hash has 16 bytes, not {len(self.nt_hash)}")


class _OfPrincipal:
    """A credential that is known by a Kerberos principal."""

    __slots__ = ()
    principal: str

    @property
    def user(self) -> str:
        """As `principal` has it; empty where that does not say."""
        return split_principal(self.principal)[0]

    @property
    def domain(self) -> str:
        """The realm of `principal`; empty where that does not say."""
        return split_principal(self.principal)[1]


@dataclasses.dataclass(frozen=True, slots=True)
class TicketCache(_OfPrincipal):
    """The Kerberos tickets of somebody who has logged on already: enough to log on, not enough to delegate.

    The tickets that a logon fetches are added to the cache, as every Kerberos client does; nothing of it is replaced.

    Attributes:
        name: `FILE:/tmp/krb5cc_1000`, `KCM:1000` or the like; empty for the user's own cache. On Windows always empty.
        principal: Whose tickets, `alice@CONTOSO.COM`, where the cache is a collection; empty for those that fit the
            server.
    """

    name: str = ""
    principal: str = ""

    def __post_init__(self) -> None:
        expect("name", self.name, str)
        expect("principal", self.principal, str)


@dataclasses.dataclass(frozen=True, slots=True)
class Keytab(_OfPrincipal):
    """A file of Kerberos keys: a client logs on with one in place of a password, a server takes tickets with one.

    Attributes:
        name: A path, or `FILE:path`, `MEMORY:name`; empty for the machine's own (`/etc/krb5.keytab`, KRB5_KTNAME).
        principal: Client: whose key, empty for the first one in it. Server: the only service that is let in,
            `TERMSRV/host@REALM`; empty for every one that the keytab has.
    """

    name: str = ""
    principal: str = ""

    def __post_init__(self) -> None:
        expect("name", self.name, str)
        expect("principal", self.principal, str)


class DelegatedKind(enum.StrEnum):
    """What kind of credentials a client delegates, by the names that records, reports and JSON have.

    Attributes:
        PASSWORD: A user's name and password.
        SMART_CARD: A smart card's PIN and where its key lies.
        REMOTE_GUARD: A forwarded Kerberos ticket.
        NOTHING: Three empty strings, as Restricted Admin delegates.
    """

    PASSWORD = "password"  # noqa: S105 - the name of a kind
    SMART_CARD = "smartcard"
    REMOTE_GUARD = "remote_guard"
    NOTHING = "nothing"

    __hash__ = str.__hash__  # Enum's own is written in Python, and every client's decision is looked up by a kind


@dataclasses.dataclass(frozen=True, slots=True)
class SmartCard:
    """A smart card's PIN and where its key lies: to be delegated, never to log on here ([MS-CSSP] 2.2.1.2.2).

    Attributes:
        pin: The card's PIN.
        user: A hint for who logs on, as is `domain`.
        domain: A hint for the domain.
        card_name: The card's name; empty for none.
        reader_name: The reader's name; empty for none.
        container_name: Of the key on the card.
        csp_name: The cryptographic service provider, `Microsoft Base Smart Card Crypto Provider` for most.
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
    """Remote Credential Guard: a forwarded Kerberos ticket of whoever logs on, in place of a password.

    The logon itself is by Kerberos then, with a ticket that may be forwarded (`kinit -f`); a password and a keytab get
    one. It is sealed so that only the server's host can open it ([MS-CSSP] 2.2.1.2.3.1, KERB_TICKET_LOGON).

    Attributes:
        service: The service of the server's host whose key seals the ticket: the computer's own account.
    """

    service: str = "HOST"

    def __post_init__(self) -> None:
        expect("service", self.service, str)
        if not self.service or "/" in self.service:
            raise ValueError("service: expected a service class such as HOST, without a slash, got another text")


@dataclasses.dataclass(frozen=True, slots=True)
class Nothing:
    """Delegate nothing: three empty strings, as Restricted Admin does ([MS-CSSP] 2.2.1.2.1)."""


AccountSecret: TypeAlias = Password | NTHash
"""What an account is known by: what NTLM proves."""

Credential: TypeAlias = Password | NTHash | TicketCache | Keytab
"""What a client can authenticate with. A password serves NTLM and Kerberos, a hash NTLM, the others Kerberos."""


@dataclasses.dataclass(frozen=True, slots=True)
class Candidates:
    """Several secrets, of which any may be right: a password being rotated, an account known under two domains.

    All of them are tried, also behind the one that fits, and each costs the same. So that nobody can tell by the time
    how many secrets a name has, a lookup gives every name as many, unknown ones too (`Deny.secret`).

    Attributes:
        secrets: The first one that fits counts. None at all is an account without a secret: nobody logs on to it by
            NTLM.
    """

    secrets: Sequence[AccountSecret]

    def __post_init__(self) -> None:
        expect("secrets", self.secrets, tuple, list)
        for secret in self.secrets:
            expect("secrets", secret, Password, NTHash)
        object.__setattr__(self, "secrets", tuple(self.secrets))


@dataclasses.dataclass(frozen=True, slots=True)
class Oracle:
    """Somebody who verifies without giving the secret: a domain controller, a vault.

    `verify` gets an `acredssp.hooks.NTLMExchange` and answers with the 16-byte session base key or `Deny`; it may be a
    plain function or a coroutine function. Who knows that the password was right, though the account may not log on,
    says so: `Deny(status, proven=True)`.

    Attributes:
        verify: Proves the logon.
        user: The account whose logon it is, as with `Password.user`; empty for the name that the client wrote.
        domain: The account's domain, as with `Password.domain`.
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
    """Refuse.

    From `lookup` or an `Oracle`, the status reaches the peer only if the peer proved the password, or if the status
    is not about the account (STATUS_NO_LOGON_SERVERS); otherwise the peer sees STATUS_LOGON_FAILURE. To say
    "disabled" to who knows the password, give the secret too.

    Attributes:
        nt_status: What the client is told, where it may know.
        secret: What the account has, or stand-ins. A refusal takes the time of as many secrets, and of one where there
            are none: where accounts have two, `Deny(secret=Candidates([NTHash(os.urandom(16))] * 2))`, made once, is
            for the unknown.
        proven: An `Oracle` has seen that the password was right. Nobody else can know: it counts from an oracle alone.
        account: From `authorize` and `admit`: the account that is refused, for the report and the log; the peer is not
            told. None for the one that was found before. From `lookup` and an `Oracle` it counts for nothing, since no
            logon is proven.
    """

    nt_status: NTSTATUS = NTSTATUS.STATUS_LOGON_FAILURE
    secret: "AccountSecret | Candidates | None" = dataclasses.field(default=None, repr=False)
    proven: bool = False
    account: Account | None = None

    def __post_init__(self) -> None:
        expect("nt_status", self.nt_status, NTSTATUS)
        if int(self.nt_status) < 0x80000000:
            raise ValueError(f"nt_status: expected the status of a failure, got {self.nt_status}, which is none")
        expect("secret", self.secret, Password, NTHash, Candidates, None)
        expect("proven", self.proven, bool)
        expect("account", self.account, Account, None)


LookupAnswer: TypeAlias = Password | NTHash | Candidates | Oracle | Deny
"""What a lookup may answer; anything else is taken as `Deny()`."""
