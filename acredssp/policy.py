"""What a handshake may be: versions, TLS floor, mechanisms, limits.

Secure by default. Everything weaker has its own switch here, spelled `dangerous_...`, off unless named.
"""

import dataclasses
import enum
import ssl
from typing import Final

from acredssp.arguments import expect, expect_count, expect_seconds
from acredssp.status import SecurityStatus

__all__ = [
    "FALL_BACK",
    "FIRST_SAFE_VERSION",
    "NEWEST_VERSION",
    "OLDEST_VERSION",
    "EncryptionOracle",
    "MechanismChoice",
    "Policy",
]

OLDEST_VERSION = 2
NEWEST_VERSION = 6
_TLS_VERSIONS: Final = (
    ssl.TLSVersion.TLSv1,
    ssl.TLSVersion.TLSv1_1,
    ssl.TLSVersion.TLSv1_2,
    ssl.TLSVersion.TLSv1_3,
)
FIRST_SAFE_VERSION = 5
"""Versions 2 to 4 bind by an echo of the key that an attacker can replay (CVE-2018-0886)."""


class MechanismChoice(enum.StrEnum):
    """Which mechanisms a client offers and in what form, and which of them a server takes (in any form).

    Attributes:
        AUTO: Kerberos before NTLM inside SPNEGO where the credentials name a realm, and raw NTLM while NTLM is all
            there is, as Windows does ([MS-SPNG] note 8). A server takes what it has the means for.
        NEGOTIATE: The same, always inside SPNEGO.
        KERBEROS: Kerberos and nothing else, inside SPNEGO.
        RAW_KERBEROS: Kerberos tokens without SPNEGO around them. No Windows client sends these ([MS-CSSP] note 7).
        NTLM: Raw NTLM tokens, no SPNEGO around them.
    """

    AUTO = "auto"
    NEGOTIATE = "negotiate"
    KERBEROS = "kerberos"
    RAW_KERBEROS = "raw-kerberos"
    NTLM = "ntlm"

    @property
    def kerberos(self) -> bool:
        """Whether Kerberos is allowed."""
        return self is not MechanismChoice.NTLM

    @property
    def ntlm(self) -> bool:
        """Whether NTLM is allowed."""
        return self not in {MechanismChoice.KERBEROS, MechanismChoice.RAW_KERBEROS}


class EncryptionOracle(enum.IntEnum):
    """AllowEncryptionOracle: which peers below version 5 (CVE-2018-0886) are allowed, with the registry's numbers.

    A level only ever forbids. What it leaves open takes `Policy(min_version=2, dangerous_allow_legacy_versions=True)`.

    Attributes:
        FORCE_UPDATED_CLIENTS: No old peer is allowed: neither a client of our servers nor a server of our clients.
        MITIGATED: Our servers may let old clients in. Our clients log on to no old server.
        VULNERABLE: Our servers may let old clients in, and our clients may log on to old servers.
    """

    FORCE_UPDATED_CLIENTS = 0
    MITIGATED = 1
    VULNERABLE = 2

    @property
    def setting(self) -> str:
        """The level as a policy's file names it: `ForceUpdatedClients`, `Mitigated` or `Vulnerable`."""
        return self.name.title().replace("_", "")

    def for_client(self, policy: "Policy") -> "Policy":
        """Return a client's policy with what the level forbids taken away.

        Raises:
            ValueError: No version is left.
        """
        return self._floored(policy, OLDEST_VERSION if self is EncryptionOracle.VULNERABLE else FIRST_SAFE_VERSION)

    def for_server(self, policy: "Policy") -> "Policy":
        """Return a server's policy with what the level forbids taken away.

        Raises:
            ValueError: No version is left.
        """
        forced = self is EncryptionOracle.FORCE_UPDATED_CLIENTS
        return self._floored(policy, FIRST_SAFE_VERSION if forced else OLDEST_VERSION)

    def _floored(self, policy: "Policy", floor: int) -> "Policy":
        if policy.min_version >= floor:
            return policy
        if policy.max_version < floor:
            raise ValueError(
                f"AllowEncryptionOracle: {self.setting} requires version {floor}, max_version is {policy.max_version}"
            )
        return dataclasses.replace(policy, min_version=floor)


FALL_BACK: Final = frozenset(
    {
        SecurityStatus.SEC_E_NO_AUTHENTICATING_AUTHORITY,
        SecurityStatus.SEC_E_TARGET_UNKNOWN,
        SecurityStatus.SEC_E_NO_CREDENTIALS,
    }
)
"""No KDC, no such service, no ticket: where Windows goes on with NTLM. Not a wrong password, nor a wrong clock."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One side's rules. Frozen and shareable; `dataclasses.replace()` derives a changed copy.

    Attributes:
        min_version: The lowest CredSSP version to end up with; below 5 only with `dangerous_allow_legacy_versions`.
        max_version: Our own version: the one every TSRequest of ours carries ([MS-CSSP] 2.2.1).
        dangerous_allow_legacy_versions: Whether `min_version` may be 2, 3 or 4: open to the relay of CVE-2018-0886.
        min_tls: The lowest version of TLS; below 1.2 only with `dangerous_allow_legacy_tls`.
        max_tls: The highest version of TLS.
        dangerous_allow_legacy_tls: Whether `min_tls` may be TLS 1.0 or 1.1, which sign by MD5 and SHA-1 (RFC 8996 has
            taken them away). OpenSSL then works at its security level 0, with the suites of those versions: keys of any
            length are taken, TLS 1.2 included. That is so for the contexts made of this policy, and for no other one.
        dangerous_allow_legacy_ciphers: Whether TLS 1.2 and below may use suites without forward secrecy (RSA key
            exchange: whoever gets the server's key later reads what was recorded) and suites of CBC with SHA-1, for
            peers that have nothing better.
        dangerous_accept_any_certificate: Whether a client takes any certificate unseen. The binding still ties the
            logon to this TLS channel, but the name of the host is then unproven and an active attacker may be given the
            credentials.
        tls_resumption: Whether a client may resume TLS sessions of its own (the SSPI functions keep them, under five
            conditions). Off: CredSSP knows no resumption ([MS-CSSP] 3.1.5 step 1). The asyncio functions never resume,
            and our servers issue no tickets.
        mechanism: Which mechanisms are offered or taken, and in what form.
        fall_back: Client: the failures of Kerberos after which NTLM is tried, where `mechanism` allows both; empty for
            none. Who keeps a client from its KDC brings it to NTLM so.
        dangerous_allow_kerberos_rc4: Whether tickets may seal with RC4-HMAC (CVE-2025-3576); MIT's library needs
            `allow_rc4` too.
        require_ntlm_mic: Whether an acceptor refuses an NTLMv2 logon that does not announce a MIC. Off, as in Windows:
            some clients (aardwolf, impacket) send none, and pubKeyAuth protects the exchange all the same. An announced
            MIC is always required, and checked.
        max_message: Bytes of one TSRequest. FreeRDP stops at 64 KiB; a Kerberos ticket with a large PAC has some tens
            of KiB.
        max_rounds: Messages of the peer with mechanism tokens. SPNEGO with a user-to-user offer, the longest known,
            takes 4.
        handshake_timeout: Seconds for the whole handshake, connecting excluded.
        hook_timeout: Seconds for each of the hooks that find out who somebody is (`accept`, `lookup`, an `Oracle`). A
            hook that takes longer has refused.
        authorize_timeout: Seconds for `authorize`; None for as long as the handshake has left.
        admit_timeout: Seconds for `admit`, in which a gateway logs on to its target; None for as long as the handshake
            has left.
        kerberos_timeout: Seconds for each step of Kerberos, which may wait for a KDC: past it, there is none
            (SEC_E_NO_AUTHENTICATING_AUTHORITY). libkrb5 itself would wait longer, and does so in its thread.
    """

    min_version: int = FIRST_SAFE_VERSION
    max_version: int = NEWEST_VERSION
    dangerous_allow_legacy_versions: bool = False

    min_tls: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    max_tls: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED
    dangerous_allow_legacy_tls: bool = False
    dangerous_allow_legacy_ciphers: bool = False
    dangerous_accept_any_certificate: bool = False

    tls_resumption: bool = False

    mechanism: MechanismChoice = MechanismChoice.AUTO
    fall_back: frozenset[SecurityStatus] = FALL_BACK
    dangerous_allow_kerberos_rc4: bool = False
    require_ntlm_mic: bool = False

    max_message: int = 128 * 1024
    max_rounds: int = 10
    handshake_timeout: float = 30.0
    hook_timeout: float = 10.0
    authorize_timeout: float | None = None
    admit_timeout: float | None = None
    kerberos_timeout: float = 10.0

    def __post_init__(self) -> None:
        self._check_values()
        object.__setattr__(self, "mechanism", MechanismChoice(self.mechanism))  # its value will do
        if not OLDEST_VERSION <= self.min_version <= self.max_version <= NEWEST_VERSION:
            raise ValueError(
                f"versions {self.min_version} to {self.max_version} are no range within "
                f"{OLDEST_VERSION} to {NEWEST_VERSION}"
            )
        if self.min_version < FIRST_SAFE_VERSION and not self.dangerous_allow_legacy_versions:
            raise ValueError(
                f"version {self.min_version} is open to CVE-2018-0886: it needs dangerous_allow_legacy_versions=True"
            )
        self._check_tls()

    def _check_values(self) -> None:
        for name in ("min_version", "max_version"):
            expect(name, getattr(self, name), int)
        for name in ("max_message", "max_rounds"):
            expect_count(name, getattr(self, name))
        for name in ("min_tls", "max_tls"):
            expect(name, getattr(self, name), ssl.TLSVersion)
        for name in ("handshake_timeout", "hook_timeout", "kerberos_timeout"):
            expect_seconds(name, getattr(self, name))
        for name in ("authorize_timeout", "admit_timeout"):
            if (seconds := getattr(self, name)) is not None:
                expect_seconds(name, seconds)
        for field in dataclasses.fields(self):
            if isinstance(field.default, bool):  # all switches, those that weaken first of all
                expect(field.name, getattr(self, field.name), bool)
        expect("fall_back", self.fall_back, frozenset, set)
        for status in self.fall_back:
            expect("fall_back", status, SecurityStatus)

    def _check_tls(self) -> None:
        lowest, highest = self.min_tls, self.max_tls
        expect("min_tls", lowest, ssl.TLSVersion)
        expect("max_tls", highest, ssl.TLSVersion)
        if lowest not in _TLS_VERSIONS or highest not in {*_TLS_VERSIONS, ssl.TLSVersion.MAXIMUM_SUPPORTED}:
            raise ValueError(f"min_tls and max_tls: expected TLSv1 to TLSv1_3, got {lowest.name} and {highest.name}")
        if lowest > highest != ssl.TLSVersion.MAXIMUM_SUPPORTED:
            raise ValueError(f"min_tls and max_tls: {lowest.name} to {highest.name} is no range")
        if self.legacy_tls and not self.dangerous_allow_legacy_tls:
            raise ValueError(f"min_tls: {lowest.name} is broken (RFC 8996): it needs dangerous_allow_legacy_tls=True")

    @property
    def legacy_tls(self) -> bool:
        """Whether TLS 1.0 or 1.1 is let in."""
        return self.min_tls < ssl.TLSVersion.TLSv1_2
