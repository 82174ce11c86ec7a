"""The catalogue of findings: what `acredssp probe` and `acredssp doctor` can say about a peer or a logon.

The id of a finding never changes and is never used for anything else, since scripts, tickets and bookmarks name it. A
finding that turns out wrong is taken out, and its id is not used again. docs/findings.md shows the whole catalogue;
each id is the anchor of its section there.

This module knows no peer and does no I/O. `server`, `client` and `logon` decide which findings apply.
"""

import dataclasses
import enum
from collections.abc import Mapping
from typing import Final, TypeAlias

__all__ = ["CATALOGUE", "DOCUMENT", "Fact", "Finding", "FindingKind", "Severity", "found"]

Fact: TypeAlias = str | int | float | None

DOCUMENT: Final = "docs/findings.md"
"""The page that has a section for each id."""


class Severity(enum.StrEnum):
    """How much a finding matters.

    Attributes:
        INFO: A fact that helps to understand the others.
        LOW: Something to know, and no danger in the usual network.
        MEDIUM: A weakness, or a fault that stops some clients.
        HIGH: A known attack works, or no client gets in.
    """

    INFO = "info"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"

    @property
    def rank(self) -> int:
        """The number by which severities are compared: 0 for INFO, 3 for HIGH."""
        return [*Severity].index(self)


@dataclasses.dataclass(frozen=True, slots=True)
class FindingKind:
    """One entry of the catalogue.

    Attributes:
        id: The name that never changes.
        severity: How much it matters.
        title: What it is, in a few words.
        sentence: What an administrator needs to know. `{names}` in it stand for facts.
        next_step: What to do.
        facts: The names of the facts that each finding of this kind has.
    """

    id: str
    severity: Severity
    title: str
    sentence: str
    next_step: str
    facts: tuple[str, ...] = ()

    @property
    def anchor(self) -> str:
        """The place in the documentation."""
        return f"{DOCUMENT}#{self.id}"


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """A kind of finding, with the facts of one case. `found` makes it.

    Attributes:
        kind: The entry of the catalogue.
        facts: The facts by name. They may hold text of the peer, which is not made printable here.
    """

    kind: FindingKind
    facts: Mapping[str, Fact]

    @property
    def id(self) -> str:
        """The id of the kind."""
        return self.kind.id

    @property
    def severity(self) -> Severity:
        """The severity of the kind."""
        return self.kind.severity

    @property
    def text(self) -> str:
        """The sentence for an administrator, with the facts in it."""
        return self.kind.sentence.format_map({name: _shown(value) for name, value in self.facts.items()})

    @property
    def next_step(self) -> str:
        """What to do, with the facts in it."""
        return self.kind.next_step.format_map({name: _shown(value) for name, value in self.facts.items()})

    def as_dict(self) -> dict[str, object]:
        """Return what `--json` prints of the finding."""
        return {
            "id": self.id,
            "severity": str(self.severity),
            "title": self.kind.title,
            "text": self.text,
            "next_step": self.next_step,
            "facts": dict(self.facts),
            "anchor": self.kind.anchor,
        }


def _shown(value: Fact) -> str:
    return "unknown" if value is None or value == "" else str(value)


def found(name: str, **facts: Fact) -> Finding:
    """Make a finding.

    Args:
        name: The id of its kind.
        facts: The facts that the kind asks for, all of them and no others.
    """
    kind = CATALOGUE[name]
    assert sorted(facts) == sorted(kind.facts), (name, sorted(facts))
    return Finding(kind, facts)


_I, _L, _M, _H = Severity.INFO, Severity.LOW, Severity.MEDIUM, Severity.HIGH

_CONNECTING: Final = (
    FindingKind(
        "host-not-found", _H, "the name has no address",
        "DNS and the hosts file know no address of {host} ({reason}).",
        "Check the spelling, the search domain and the DNS server of this machine; or give the IP address to see "
        "whether only the name is wrong.",
        ("host", "reason"),
    ),
    FindingKind(
        "connection-refused", _H, "nothing listens at this port",
        "{address} answers, but no program listens at this port.",
        "Check the port, and whether the service runs there: TermService for Remote Desktop, WinRM for WinRM.",
        ("address",),
    ),
    FindingKind(
        "no-answer", _H, "the host does not answer",
        "Nothing came back from {address} within {seconds} s: the host is off, or a firewall drops the connection.",
        "Check the address, the route and the firewalls in between and on the host, for TCP to this port.",
        ("address", "seconds"),
    ),
    FindingKind(
        "connection-failed", _H, "the connection cannot be made",
        "The connection to {address} cannot be made: {reason}.",
        "Check the route to this address.",
        ("address", "reason"),
    ),
    FindingKind(
        "own-limit", _M, "this machine made no connection",
        "This machine could not begin a connection to {address}: {reason}. That says nothing of the server.",
        "Allow this process more open files (ulimit -n), or ask fewer hosts at a time (--at-once).",
        ("address", "reason"),
    ),
    FindingKind(
        "connection-lost", _H, "the server does not answer to RDP",
        "{address} accepts the connection and then {what}.",
        "Look at what is in front of the server (a balancer without targets, a firewall, a limit of connections), and "
        "whether the server expects TLS at once: acredssp doctor --carriage tls asks it so.",
        ("address", "what"),
    ),
    FindingKind(
        "not-rdp", _H, "another protocol answers",
        "The program at {address} does not speak RDP: {what}.",
        "Check the port: RDP has 3389, WinRM has 5985 and 5986, which are given as http://HOST:5985 to probe.",
        ("address", "what"),
    ),
)  # fmt: skip

_PROBE: Final = (
    FindingKind(
        "probe-incomplete", _M, "the probe did not see everything",
        "The server was not asked everything, or did not answer in every connection, so that these are not known: "
        "{missing}.",
        "Ask again, more slowly (--rate) and with more patience (--timeout, --host-timeout). A limit of connections, "
        "or a device in between, may have ended some.",
        ("missing",),
    ),
)  # fmt: skip

_NEGOTIATION: Final = (
    FindingKind(
        "rdp-security-accepted", _H, "RDP's own security is accepted",
        "The server accepts connections without TLS. RDP's own security has RC4 and a key that everybody knows, so an "
        "attacker in between reads the password.",
        'Set the security layer to "SSL" and require Network Level Authentication.',
    ),
    FindingKind(
        "nla-not-required", _M, "a logon screen without NLA",
        "The server accepts TLS without Network Level Authentication, so anybody on the network gets a logon "
        "screen, and the server is exposed to attacks before any logon (such as CVE-2019-0708).",
        'Switch on "Allow connections only from computers running Remote Desktop with Network Level '
        'Authentication" (UserAuthentication = 1).',
    ),
    FindingKind(
        "nla-not-offered", _H, "the server has no NLA",
        "The server does not take CredSSP. Its answer is: {answer}. A client that insists on CredSSP, like this one, "
        "cannot log on.",
        "Switch Network Level Authentication on at the server.",
        ("answer",),
    ),
    FindingKind(
        "tls-required", _I, "the server demands TLS",
        "The server refuses RDP's own security (SSL_REQUIRED_BY_SERVER, code 1).",
        "Offer TLS or CredSSP: current clients do. A client without them is too old for this server.",
    ),
    FindingKind(
        "tls-not-allowed", _H, "the server has TLS switched off",
        "The server refuses TLS and CredSSP and takes RDP's own security alone (SSL_NOT_ALLOWED_BY_SERVER, code 2).",
        'Set the security layer of the server to "SSL" or "Negotiate".',
    ),
    FindingKind(
        "no-server-certificate", _H, "the server has no certificate",
        "The server would take TLS, but has no certificate for it (SSL_CERT_NOT_ON_SERVER, code 3).",
        "Let the server make its certificate again: restart the service TermService, and check the permissions of "
        "the folder MachineKeys and the certificate that is configured for RDP-Tcp.",
    ),
    FindingKind(
        "inconsistent-flags", _H, "the flags of the request do not fit",
        "The server says that the flags of the request contradict each other (INCONSISTENT_FLAGS, code 4).",
        "Try without --restricted-admin and --remote-guard; an old server does not know these flags.",
    ),
    FindingKind(
        "nla-required", _I, "the server demands NLA",
        "The server refuses everything but CredSSP (HYBRID_REQUIRED_BY_SERVER, code 5), as it should.",
        "Nothing at the server. A client that gets this answer has NLA switched off, or lacks it.",
    ),
    FindingKind(
        "client-certificate-required", _H, "the server demands a client certificate",
        "The server demands TLS with a client's certificate (SSL_WITH_USER_AUTH_REQUIRED_BY_SERVER, code 6).",
        "Log on with a smart card or certificate by a client that can do so.",
    ),
    FindingKind(
        "negotiation-refused", _H, "the server refuses to negotiate",
        "The server refuses the negotiation with a code that has no name here: {code}.",
        "Look into the server's log for the reason.",
        ("code",),
    ),
    FindingKind(
        "rdstls-offered", _I, "redirected logons (RDSTLS)",
        "The server accepts RDSTLS. A client logs on by RDSTLS after a connection broker has redirected it.",
        "Nothing, if the server belongs to a Remote Desktop deployment.",
    ),
    FindingKind(
        "entra-offered", _I, "Microsoft Entra logons",
        "The server accepts logons by Microsoft Entra (RDSAAD).",
        "Nothing. Entra accounts log on by RDSAAD, and not by CredSSP with NTLM.",
    ),
    FindingKind(
        "restricted-admin-offered", _I, "Restricted Admin is on",
        "The server allows Restricted Admin: a logon without delegated credentials, for which an NT hash is enough.",
        "Nothing, if it is wanted. Otherwise set DisableRestrictedAdmin to 1.",
    ),
    FindingKind(
        "remote-guard-offered", _I, "Remote Credential Guard is offered",
        "The server takes logons by Remote Credential Guard, which delegates a ticket in place of the password.",
        "Use it where you can: the password then never reaches the server.",
    ),
)  # fmt: skip

_TLS: Final = (
    FindingKind(
        "tls-old", _M, "old TLS is accepted",
        "The server accepts {versions}, which RFC 8996 forbids.",
        "Switch them off in SChannel (or min_tls), once no client needs them.",
        ("versions",),
    ),
    FindingKind(
        "tls-too-old", _H, "only old TLS",
        "The server knows nothing newer than {version}, which RFC 8996 forbids. Current clients refuse it.",
        "Update the server; as a last resort, this client connects with --min-tls 1.0 --dangerous-allow-legacy-tls.",
        ("version",),
    ),
    FindingKind(
        "tls-no-1-3", _I, "no TLS 1.3",
        "The server does not speak TLS 1.3.",
        "Nothing: TLS 1.2 is good enough. Windows has 1.3 since Server 2022.",
    ),
    FindingKind(
        "tls-failed", _H, "TLS cannot be established",
        "Server and client have no TLS version, cipher suite or key type in common, or something in between ends the "
        "connection. Offered: {offered}. What came: {answer}.",
        "Compare the versions and suites of both sides (SChannel and its group policies at Windows), check the "
        "server's certificate and its private key, and look for a device in between that inspects TLS.",
        ("offered", "answer"),
    ),
    FindingKind(
        "tls-legacy-ciphers", _H, "the server takes legacy cipher suites alone",
        "A logon offers cipher suites with forward secrecy alone, and the server took none of them. Asked quietly, it "
        "took {suites}.",
        "Allow suites with ECDHE at the server. Until then, --dangerous-allow-legacy-ciphers logs on: whoever gets the "
        "server's key later can read a recorded connection.",
        ("suites",),
    ),
    FindingKind(
        "tls-not-tested", _I, "this OpenSSL cannot test everything",
        "The OpenSSL of this machine does not offer {versions}, or not with a suite, curve or signature that the "
        "server takes, so whether the server accepts them is not known.",
        "Probe from a machine whose OpenSSL offers more, if it matters.",
        ("versions",),
    ),
    FindingKind(
        "cipher-weak", _M, "a weak cipher suite is chosen",
        "With {version} the server chose {cipher} among all suites that this client offered.",
        "Order the suites of the server so that those with ECDHE and GCM come first, and remove this one.",
        ("version", "cipher"),
    ),
    FindingKind(
        "suites-weak", _L, "weak cipher suites are taken",
        "With {version} the server also takes {suites} from a client that offers nothing better.",
        "Remove them from the server's suites, unless an old client needs one.",
        ("version", "suites"),
    ),
    FindingKind(
        "no-forward-secrecy", _L, "no forward secrecy",
        "With {version} the server chose {cipher}, which has no forward secrecy: whoever gets the server's key later "
        "reads recorded connections.",
        "Order the suites of the server so that those with ECDHE come first.",
        ("version", "cipher"),
    ),
)  # fmt: skip

_CERTIFICATE: Final = (
    FindingKind(
        "certificate-expired", _H, "the certificate has expired",
        "The server's certificate was valid until {not_after}.",
        "Renew it; or set the clock of this machine, if that is wrong.",
        ("not_after",),
    ),
    FindingKind(
        "certificate-not-yet-valid", _H, "the certificate is not valid yet",
        "The server's certificate is valid from {not_before}.",
        "Check the clocks of this machine and of the one that made the certificate.",
        ("not_before",),
    ),
    FindingKind(
        "certificate-expires-soon", _L, "the certificate expires soon",
        "The server's certificate is valid until {not_after}, {days} days from now.",
        "Renew it before that day.",
        ("not_after", "days"),
    ),
    FindingKind(
        "certificate-wrong-name", _M, "the certificate is for another name",
        "The server's certificate is for {names}, and not for {asked}.",
        "Connect by a name that the certificate has. If the address cannot be changed, give a name of the certificate "
        "with --server-name, or renew the certificate with the missing name as a subjectAltName.",
        ("names", "asked"),
    ),
    FindingKind(
        "certificate-no-names", _M, "the certificate has no subjectAltName",
        "The server's certificate names its host in the subject alone ({subject}), which clients no longer read.",
        "Renew it with the names of the host as subjectAltName.",
        ("subject",),
    ),
    FindingKind(
        "certificate-sha1", _M, "the certificate is signed with SHA-1 or MD5",
        "The server's certificate is signed with {digest}, which can be forged.",
        "Renew it with SHA-256.",
        ("digest",),
    ),
    FindingKind(
        "certificate-weak-key", _M, "the certificate's key is short",
        "The key of the server's certificate is {key}.",
        "Renew it with an RSA key of 2048 bits or more, or an EC key.",
        ("key",),
    ),
    FindingKind(
        "certificate-wrong-usage", _M, "the certificate is not for servers",
        "The server's certificate is for {usages}, and not for servers.",
        "Renew it with the extended key usage serverAuth.",
        ("usages",),
    ),
    FindingKind(
        "certificate-self-signed", _L, "the certificate is self-signed",
        "No authority vouches for the server: its certificate is signed by itself, as Windows makes it.",
        "Compare the pin {pin} with the server's, once, and log on with --pin; or give the server a certificate of an "
        "authority that the clients trust.",
        ("pin",),
    ),
    FindingKind(
        "certificate-untrusted", _M, "the certificate is not trusted",
        "A logon from here would refuse the server's certificate: {reason}.",
        "Trust its authority (--ca), or pin its key once it is compared with the server's: {pin}.",
        ("reason", "pin"),
    ),
    FindingKind(
        "certificate-several", _L, "several certificates",
        "The server has shown certificates with {count} different keys, depending on the connection: {pins}.",
        "Pin all of these keys with --pin, or none of them. A server may have one key of each type, such as RSA and "
        "ECDSA, and the servers behind a load balancer may have different keys.",
        ("count", "pins"),
    ),
    FindingKind(
        "certificate-other-key", _H, "the key is not the pinned one",
        "The server shows the key {pin}, and not the pinned one.",
        "An attacker may be in between. Do not log on before the server's administrator confirms the new key.",
        ("pin",),
    ),
)  # fmt: skip

_CREDSSP: Final = (
    FindingKind(
        "credssp-old", _H, "CredSSP below version 5",
        "The server speaks CredSSP {version}. Below 5 an attacker in between can take over the logon (CVE-2018-0886), "
        'so updated clients refuse it ("encryption oracle remediation").',
        "Update the server. Do not loosen AllowEncryptionOracle at the clients.",
        ("version",),
    ),
    FindingKind(
        "credssp-no-answer", _H, "no answer to CredSSP",
        "TLS is up, but the server does not go on after the first message of CredSSP: {what}.",
        "Look into the server's log; the program behind TLS may not be a Remote Desktop.",
        ("what",),
    ),
    FindingKind(
        "credssp-malformed", _M, "an answer that cannot be read",
        "The server's answer to the first message of CredSSP cannot be read: {what}. A logon ends there.",
        "Update the server's program, or look for a device in between that changes its answers.",
        ("what",),
    ),
    FindingKind(
        "ntlm-refused", _I, "no NTLM",
        "The server offers no NTLM ({reason}), so a logon needs Kerberos: the server's DNS name, a ticket and a KDC.",
        "Nothing at the server. Clients use its DNS name and an account of its domain.",
        ("reason",),
    ),
    FindingKind(
        "ntlm-only", _L, "NTLM only",
        "The server offers NTLM and no Kerberos. NTLM does not prove to the client who the server is; only the "
        "certificate does.",
        "Join the server to a domain, or trust its certificate (--ca or --pin) rather than accept any.",
    ),
    FindingKind(
        "clock-off", _M, "the clocks differ",
        "The server's clock differs from this machine's by {seconds} s. Kerberos allows 300 s, and certificates are "
        "judged by the clock.",
        "Set the clock that is wrong, and its source of time (w32tm /query /status, timedatectl).",
        ("seconds",),
    ),
    FindingKind(
        "enforcement-unknown", _I, "what only a logon shows",
        "Whether the server demands a MIC and checks channel bindings cannot be known without a logon.",
        "Nothing. acredssp doctor makes a logon.",
    ),
)  # fmt: skip

_HTTP: Final = (
    FindingKind(
        "winrm-no-credssp", _M, "WinRM without CredSSP",
        "The service at {url} offers {schemes}, and no CredSSP.",
        "If credentials are to be delegated: Enable-WSManCredSSP -Role Server at the server. Otherwise leave it off.",
        ("url", "schemes"),
    ),
    FindingKind(
        "winrm-certificate-untrusted", _L, "the certificate inside CredSSP is not trusted",
        "A logon at {url} would refuse the certificate inside CredSSP: {reason}.",
        "Compare the pin {pin} with the server's, once, and log on with --pin; or trust its authority with --ca. A "
        "certificate of HTTPS is another one.",
        ("url", "reason", "pin"),
    ),
    FindingKind(
        "winrm-wrong-credentials", _H, "user or password is wrong",
        "You sent {account} to {url}. User, domain or password is wrong ({status}).",
        "Check all three, and the server's log: some servers answer a locked account as they answer a wrong password. "
        "A local account of the server is COMPUTER\\USER. Entra accounts do not log on by NTLM.",
        ("url", "account", "status"),
    ),
    FindingKind(
        "winrm-not-authorized", _H, "the logon was right, the permission is missing",
        "User and password are right, but the service at {url} does not let the user in: {how}.",
        "At the server, add the user to Remote Management Users, or to the administrators, and check the service's "
        "permissions (winrm configSDDL default).",
        ("url", "how"),
    ),
    FindingKind(
        "http-connection-shared", _M, "something in between may share connections",
        "The service at {url} forgot the logon on its way: {what}. CredSSP logs on one connection, so a proxy or "
        "balancer in between that shares connections among clients breaks it; so does a restart of the server.",
        "Ask the server without the proxy in between, or let the proxy keep one connection to the server for each of "
        "its clients'.",
        ("url", "what"),
    ),
    FindingKind(
        "https-untrusted", _H, "the certificate of HTTPS is not trusted",
        "The logon at {url} did not begin: {reason}.",
        "Name the authority of this certificate with --ca. --pin is for the certificate inside CredSSP alone.",
        ("url", "reason"),
    ),
    FindingKind(
        "winrm-basic-in-clear", _H, "Basic over HTTP",
        "The service at {url} takes Basic without TLS, so that passwords cross the network in clear.",
        "Switch Basic off (winrm set winrm/config/service/auth '@{{Basic=\"false\"}}'), or use HTTPS alone.",
        ("url",),
    ),
    FindingKind(
        "winrm-basic", _L, "Basic over HTTPS",
        "The service at {url} takes Basic, so that the server sees the password itself.",
        "Switch Basic off if no client needs it.",
        ("url",),
    ),
    FindingKind(
        "http-no-authentication", _H, "no authentication",
        "The service at {url} answers {status} to a request without any logon.",
        "Check which program answers there: WinRM answers 401.",
        ("url", "status"),
    ),
    FindingKind(
        "not-winrm", _M, "this is not WinRM",
        "The service at {url} answers {status}, and asks for no logon: it is no WinRM, or its path is another.",
        "Check port and path: http://HOST:5985/wsman, https://HOST:5986/wsman.",
        ("url", "status"),
    ),
    FindingKind(
        "http-unavailable", _M, "the service is not available",
        "The service at {url} answers {status}: it is overloaded, stopped or faulty, so what it offers is not known.",
        "Look into the service's log, start it (Restart-Service WinRM), and ask again.",
        ("url", "status"),
    ),
    FindingKind(
        "http-no-answer", _H, "no answer of HTTP",
        "The program at {url} accepts the connection and gives no whole answer of HTTP: {what}.",
        "Ask again with more patience (--timeout); look at the service's load, and at a device in between.",
        ("url", "what"),
    ),
    FindingKind(
        "not-http", _H, "another protocol answers",
        "The program at {url} does not speak HTTP: {what}.",
        "Check the port, and whether it is http or https.",
        ("url", "what"),
    ),
)  # fmt: skip

_CLIENT: Final = (
    FindingKind(
        "client-no-nla", _M, "the client does not offer NLA",
        "The client asks for {protocols}, and not for CredSSP, so that a server with NLA refuses it.",
        "Switch NLA on at the client (enablecredsspsupport:i:1 in an .rdp file; /sec:nla).",
        ("protocols",),
    ),
    FindingKind(
        "client-credssp-old", _H, "the client speaks CredSSP below version 5",
        "The client speaks CredSSP {version}. Below 5 an attacker in between can take over the logon "
        "(CVE-2018-0886), and updated servers refuse it.",
        "Update the client.",
        ("version",),
    ),
    FindingKind(
        "client-tls-old", _M, "the client's TLS is old",
        "The client speaks nothing newer than {version}.",
        "Update the client.",
        ("version",),
    ),
    FindingKind(
        "client-silent", _L, "the client asked for nothing",
        "A client connected from {address} and sent no whole Connection Request: {what}. Port scans and the checks of "
        "balancers do so.",
        "Probe again, and connect with the client that is to be judged.",
        ("address", "what"),
    ),
    FindingKind(
        "client-not-rdp", _H, "the client speaks another protocol",
        "The client at {address} does not begin with a Connection Request of RDP: {what}.",
        "Connect with a client of Remote Desktop, and without a preconnection PDU or TLS in front.",
        ("address", "what"),
    ),
    FindingKind(
        "client-malformed", _M, "the client's first message cannot be read",
        "TLS is up, and the client's first message of CredSSP cannot be read: {what}.",
        "Update the client, or look for a device in between that changes its messages.",
        ("what",),
    ),
    FindingKind(
        "client-tls-failed", _H, "TLS with the client cannot be established",
        "TLS with the client was not established: {answer}. The client may not trust the certificate of this probe, or "
        "have no version or suite in common with it.",
        "Give the probe a certificate that the client trusts (--cert and --key), or let the client accept it.",
        ("answer",),
    ),
    FindingKind(
        "client-sent-nothing", _M, "the client sent no logon",
        "TLS is up, but the client sent no whole message of CredSSP: {what}.",
        "The client may not trust the certificate of this probe: give one that it trusts (--cert and --key).",
        ("what",),
    ),
    FindingKind(
        "client-ntlm-only", _L, "the client offers NTLM only",
        "The client offers NTLM and no Kerberos, as it does for an IP address or a local account.",
        "Connect by the DNS name of the server, with an account of its domain.",
    ),
    FindingKind(
        "client-user-in-clear", _I, "the client names its user in clear",
        "The client sends the name {cookie} in clear, for load balancers.",
        "Nothing. Everybody on the way can read it.",
        ("cookie",),
    ),
)  # fmt: skip

_LOGON: Final = (
    FindingKind(
        "logon-succeeded", _I, "the logon succeeded",
        "The logon succeeded: {mechanism}, CredSSP {version}.",
        "Nothing.",
        ("mechanism", "version"),
    ),
    FindingKind(
        "ntlm-disabled", _H, "the server takes no NTLM",
        "The server accepts no NTLM ({status}): a policy of the server, of its domain or of the account forbids NTLM.",
        "Log on by Kerberos: name the server by its DNS name, and add -u USER@REALM --mechanism kerberos. This machine "
        "must reach a KDC of the realm.",
        ("status",),
    ),
    FindingKind(
        "ntlm-by-address", _M, "by IP address there is no Kerberos",
        "{host} is an IP address. For an address there is usually no Kerberos, so that only NTLM is left; members of "
        "Protected Users, and servers without NTLM, refuse that.",
        "Use the DNS name of the server in place of its address.",
        ("host",),
    ),
    FindingKind(
        "account-restriction", _H, "a restriction of the account",
        "The password may be right, but a rule of the account forbids this logon ({status}): the account is a member "
        "of Protected Users and this was NTLM, its password is empty, or it is barred from this kind of logon, this "
        "computer or this hour.",
        "Try Kerberos by the server's DNS name; then look at the account's logon hours and workstations, at "
        "authentication policies, and at whether its password is empty.",
        ("status",),
    ),
    FindingKind(
        "password-expired", _H, "the password has expired",
        "The password has expired ({status}). NLA cannot change it.",
        "Change it elsewhere: at a console, on a machine of the domain (Ctrl-Alt-Del), or by smbpasswd or kpasswd.",
        ("status",),
    ),
    FindingKind(
        "password-must-change", _H, "the password must be changed",
        "The password must be changed before the first logon ({status}). NLA cannot do that.",
        'Change it elsewhere, or clear "User must change password at next logon".',
        ("status",),
    ),
    FindingKind(
        "account-locked", _H, "the account is locked",
        "The account is locked after wrong passwords ({status}), however right this one is.",
        "Unlock it, or wait for the lockout to end; then look for the device or service that still has the old "
        "password.",
        ("status",),
    ),
    FindingKind(
        "account-disabled", _H, "the account is disabled",
        "The account is disabled ({status}).",
        "Enable it, or log on with another one.",
        ("status",),
    ),
    FindingKind(
        "account-expired", _H, "the account has expired",
        "The account has expired ({status}).",
        "Extend its expiry date.",
        ("status",),
    ),
    FindingKind(
        "wrong-credentials", _H, "user or password is wrong",
        "The server is {computer} in {domain}; you sent {account}. User, domain or password is wrong ({status}).",
        "Check all three. The account may also be locked: some servers answer a locked account as they answer a wrong "
        "password, so look at the server's log. A local account of the server is {computer}\\USER. Entra accounts do "
        "not log on by NTLM.",
        ("computer", "domain", "account", "status"),
    ),
    FindingKind(
        "slash-in-account", _L, "the user's name has a slash",
        "The account was sent as {account}: a slash ends no domain's name, it is part of the user's name.",
        "If a domain stands before the slash, give the account as DOMAIN\\USER, or the domain by --domain.",
        ("account",),
    ),
    FindingKind(
        "no-domain-controller", _H, "the server does not reach its domain",
        "The server (not this machine) cannot reach a domain controller ({status}).",
        "Check the server's network, DNS and service Netlogon. A logon with a local account of the server tells "
        "whether everything else works.",
        ("status",),
    ),
    FindingKind(
        "trust-broken", _H, "the server's trust with its domain is broken",
        "The server's account in its domain is gone, or has another password than the server thinks, or the domains "
        "do not trust each other ({status}).",
        "At the server: Test-ComputerSecureChannel -Repair, or join it again. A local account of the server still "
        "logs on.",
        ("status",),
    ),
    FindingKind(
        "spn-unknown", _H, "no account has the service's name",
        "The KDC of {realm} knows no account with {spn} (error 7), so that Kerberos could not be used.",
        "setspn -Q {spn}: if no account has it, register it at the server's account, or use the name that is "
        "registered (--server-name, --spn). Aliases and balancers need a name of their own.",
        ("spn", "realm"),
    ),
    FindingKind(
        "spn-wrong-key", _H, "another account has the service's name",
        "The ticket for {spn} was made with another key than the server's (error 41): another account holds the name, "
        "or the server's key is old.",
        "setspn -Q {spn} and setspn -X show who holds it. Behind an alias or a balancer every host needs the same "
        "key. With a keytab, make it again.",
        ("spn",),
    ),
    FindingKind(
        "kdc-not-reached", _H, "no KDC answers",
        "No KDC of {realm} answered. It was looked for as krb5.conf and DNS (_kerberos._udp.{realm}, "
        "_kerberos._tcp.{realm}) say.",
        "Check DNS and the firewall to port 88 of the KDC, or name it in krb5.conf ([realms] kdc).",
        ("realm",),
    ),
    FindingKind(
        "kdc-slow", _M, "the KDC is slow to answer",
        "The answers of the KDC took {seconds} s.",
        "Look for a KDC in DNS or krb5.conf that does not answer: each is waited for in turn.",
        ("seconds",),
    ),
    FindingKind(
        "clock-skew", _H, "Kerberos refuses the clock",
        "Kerberos refuses the logon, because two clocks differ by more than 300 s (error 37): those of this machine, "
        "of the KDC, and of the server.{measured}",
        "Set the clock that is wrong, and its source of time (w32tm /query /status, timedatectl).",
        ("measured",),
    ),
    FindingKind(
        "no-ticket", _H, "there is no ticket",
        "There is no Kerberos ticket or key to log on with.",
        "Get one (kinit USER@REALM; klist shows it), and name its cache by --ccache.",
    ),
    FindingKind(
        "kerberos-not-installed", _H, "this machine's acredssp has no Kerberos",
        "The account names a realm, but Kerberos cannot be used on this machine: {reason}.",
        "Install it (pip install 'acredssp[kerberos]', which needs libkrb5-dev), or log on by NTLM alone (--mechanism "
        "ntlm) where the server takes NTLM.",
        ("reason",),
    ),
    FindingKind(
        "no-common-enctype", _H, "no encryption type in common",
        "The KDC, the server and the client share no Kerberos encryption type.",
        "Allow AES for the server's account (msDS-SupportedEncryptionTypes), and set the account's password again: an "
        "old account may have a key for RC4 only.",
    ),
    FindingKind(
        "not-authorized", _H, "the logon was right, the permission is missing",
        "User and password are right, but the user may not log on remotely: {how}.",
        'Add the user to Remote Desktop Users at the server, and check the right "Allow log on through Remote '
        'Desktop Services".',
        ("how",),
    ),
    FindingKind(
        "restricted-admin-off", _H, "Restricted Admin is off at the server",
        "A logon without delegated credentials was asked for, and the server does not announce Restricted Admin.",
        "Set DisableRestrictedAdmin to 0 at the server, or log on without --restricted-admin (and with a password "
        "rather than a hash or ticket).",
    ),
    FindingKind(
        "tls-intercepted", _H, "something in between ends TLS",
        "The server did not prove that it holds the key of the TLS connection ({what}). Something in between ends "
        "TLS (an inspecting firewall, a balancer, an attacker).",
        "At the server, compare its key with the one seen here: {pin}. If they differ, take the device out of the "
        "way, or let it pass this connection on.",
        ("what", "pin"),
    ),
    FindingKind(
        "key-unchecked",
        _L,
        "the key was not checked",
        "The server's certificate was accepted unchecked (--insecure). If something in between ends TLS, a server may "
        "refuse the logon just as it refuses a wrong password.",
        "At the server, compare its key with the one seen here, and log on with --pin: {pin}.",
        ("pin",),
    ),
    FindingKind(
        "peer-defect", _M, "a known defect of the server's program",
        "Some servers end a logon so without anything in between: {defect}.",
        "Update the server's program; try --mechanism ntlm and --max-version 5 to see whether that is it.",
        ("defect",),
    ),
    FindingKind(
        "policy-forbids", _H, "a rule of this machine forbids it",
        "Nothing was sent to the server: {rule}.",
        "Change the rule in the --policy file if the server is to get credentials (docs/policy.md).",
        ("rule",),
    ),
    FindingKind(
        "silent-refusal", _M, "the server gave no reason",
        "The server refused the logon without a reason ({what}). FreeRDP, and servers that speak CredSSP version 2 or "
        "5, do so for a wrong user or password, for a locked account, and for a ticket that they cannot read.",
        "Look at the server's log, which alone tells a locked account from a wrong password.",
        ("what",),
    ),
    FindingKind(
        "unknown", _H, "no known cause fits",
        "The logon failed at {stage}, and no known cause fits: {message}. Status {status}, NTSTATUS {nt_status}.",
        "Send the report (--report FILE) to the support. It holds no secret.",
        ("stage", "message", "status", "nt_status"),
    ),
)  # fmt: skip

CATALOGUE: Final[Mapping[str, FindingKind]] = {
    kind.id: kind
    for group in (_CONNECTING, _PROBE, _NEGOTIATION, _TLS, _CERTIFICATE, _CREDSSP, _HTTP, _CLIENT, _LOGON)
    for kind in group
}
"""All findings by their ids."""
