"""The rules that a handshake must keep: CredSSP versions, TLS versions, mechanisms and limits.

The defaults are secure. Each weakening has a switch of its own, named `dangerous_...` and off by default.
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
"""The first version that is safe. Versions 2 to 4 bind by an echo of the key, which an attacker can relay
(CVE-2018-0886)."""


class MechanismChoice(enum.StrEnum):
    """The mechanisms that a client offers, and their form; and the mechanisms that a server accepts, in any form.

    Attributes:
        AUTO: A client offers Kerberos before NTLM, inside SPNEGO, where its credentials name a realm. A client that can
            use nothing but NTLM sends raw NTLM, as Windows does ([MS-SPNG] note 8). A server accepts each mechanism for
            which it has a keytab or a lookup.
        NEGOTIATE: As AUTO, but always inside SPNEGO.
        KERBEROS: Kerberos alone, inside SPNEGO.
        RAW_KERBEROS: Kerberos alone, without SPNEGO around its tokens. No Windows client does so ([MS-CSSP] note 7).
        NTLM: NTLM alone, without SPNEGO around its tokens.
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

    A level only forbids versions. Versions that it does not forbid still need
    `Policy(min_version=2, dangerous_allow_legacy_versions=True)`.

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
        """The level's name in a policy file: `ForceUpdatedClients`, `Mitigated` or `Vulnerable`."""
        return self.name.title().replace("_", "")

    def for_client(self, policy: "Policy") -> "Policy":
        """Return a client's policy without the versions that the level forbids.

        Raises:
            ValueError: No version is left.
        """
        return self._floored(policy, OLDEST_VERSION if self is EncryptionOracle.VULNERABLE else FIRST_SAFE_VERSION)

    def for_server(self, policy: "Policy") -> "Policy":
        """Return a server's policy without the versions that the level forbids.

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
"""The failures of Kerberos after which Windows goes on with NTLM: no KDC, an unknown service, no ticket. A wrong
password or a wrong clock is not among them."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rules for the handshakes of one side. They are frozen; `dataclasses.replace()` derives a changed copy.

    Attributes:
        min_version: The lowest CredSSP version that is accepted; below 5 only with `dangerous_allow_legacy_versions`.
        max_version: Our own version, which each of our TSRequests carries ([MS-CSSP] 2.2.1).
        dangerous_allow_legacy_versions: Whether `min_version` may be 2, 3 or 4, which are open to the relay of
            CVE-2018-0886.
        min_tls: The lowest version of TLS; below 1.2 only with `dangerous_allow_legacy_tls`.
        max_tls: The highest version of TLS.
        dangerous_allow_legacy_tls: Whether `min_tls` may be TLS 1.0 or 1.1, which sign by MD5 and SHA-1, and which RFC
            8996 forbids. OpenSSL then works at its security level 0, with the suites of those versions, and accepts
            keys of any length, with TLS 1.2 too. Only contexts that are made with this policy are affected.
        dangerous_allow_legacy_ciphers: Whether TLS 1.2 and below may use suites of CBC with SHA-1, and suites without
            forward secrecy (RSA key exchange), for peers that have nothing better. Without forward secrecy, an attacker
            who gets the server's key later can read recorded connections.
        dangerous_accept_any_certificate: Whether a client accepts any certificate without a check. The logon is still
            bound to its TLS connection, but the server's name is not proven: an active attacker can take the server's
            place, and get the credentials.
        tls_resumption: Whether a client may resume its own TLS sessions. It is off by default, since CredSSP defines no
            resumption ([MS-CSSP] 3.1.5 step 1). Only the SSPI functions resume sessions, under five conditions; the
            asyncio functions never do, and our servers issue no tickets.
        mechanism: The mechanisms that are offered or accepted, and their form.
        fall_back: Client: the failures of Kerberos after which NTLM is tried, where `mechanism` allows both. An
            attacker who blocks the KDC can force this fallback; an empty set disables it.
        dangerous_allow_kerberos_rc4: Whether tickets may seal with RC4-HMAC (CVE-2025-3576). MIT's library needs
            `allow_rc4` in krb5.conf too.
        require_ntlm_mic: Whether a server refuses an NTLMv2 logon without a MIC. It is off by default, as in Windows:
            some clients (aardwolf, impacket) send no MIC, and pubKeyAuth protects the exchange nevertheless. A MIC that
            a client announces is always required and checked.
        max_message: The most bytes of one TSRequest. FreeRDP stops at 64 KiB; a Kerberos ticket with a large PAC has
            some tens of KiB.
        max_rounds: The most messages with mechanism tokens that the peer may send. The longest known exchange, SPNEGO
            with a user-to-user offer, takes 4.
        handshake_timeout: Seconds for the whole handshake, without the time to connect.
        hook_timeout: Seconds for each of the hooks `accept`, `lookup` and `Oracle.verify`. A hook that takes longer
            refuses.
        authorize_timeout: Seconds for `authorize`; None for the time that the handshake has left.
        admit_timeout: Seconds for `admit`, in which a gateway logs on to its target; None for the time that the
            handshake has left.
        kerberos_timeout: Seconds for each step of Kerberos, which may wait for a KDC. A step that takes longer fails
            with SEC_E_NO_AUTHENTICATING_AUTHORITY, while libkrb5 may go on waiting in its thread.
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
        object.__setattr__(self, "mechanism", MechanismChoice(self.mechanism))  # callers may give the plain text
        if not OLDEST_VERSION <= self.min_version <= self.max_version <= NEWEST_VERSION:
            raise ValueError(
                f"min_version and max_version: expected a range within {OLDEST_VERSION} to {NEWEST_VERSION}, "
                f"got {self.min_version} to {self.max_version}"
            )
        if self.min_version < FIRST_SAFE_VERSION and not self.dangerous_allow_legacy_versions:
            raise ValueError(
                f"min_version: version {self.min_version} is open to CVE-2018-0886, and needs "
                "dangerous_allow_legacy_versions=True"
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
            if isinstance(field.default, bool):  # the switches, above all those that weaken
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
            raise ValueError(f"min_tls and max_tls: expected a range, got {lowest.name} to {highest.name}")
        if self.legacy_tls and not self.dangerous_allow_legacy_tls:
            raise ValueError(f"min_tls: {lowest.name} is broken (RFC 8996), and needs dangerous_allow_legacy_tls=True")

    @property
    def legacy_tls(self) -> bool:
        """Whether TLS 1.0 or 1.1 is allowed."""
        return self.min_tls < ssl.TLSVersion.TLSv1_2
