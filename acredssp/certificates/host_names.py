"""Whether a certificate is for the host that a client asked for (RFC 9525, RFC 5280 4.2.1.6).

Only subjectAltName counts, never the common name. Addresses are compared as addresses, not as text. A wildcard stands
for the whole left-most label, and for nothing else.

International names
===================

A certificate holds the xn-- form of a name. Two standards define that form. Python's `socket` and `ssl`, which resolve
the name and send it to the server, follow the older one (IDNA 2003). So does this module, because the certificate has
to be for the host that was connected to. Four characters have another meaning in IDNA 2008. A name with one of them
fits no certificate, and the user has to write the intended xn-- form.
"""

import ipaddress
import re
from typing import Final, TypeAlias

from cryptography import x509

from acredssp.certificates.judgement import Refusal, Verdict
from acredssp.certificates.link import Link, shown

__all__ = ["Address", "check_name", "dns_name", "plain_address"]

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_DEVIATIONS: Final = frozenset("ß\u03c2\u200c\u200d")
"""Sharp s, final sigma, zero width non-joiner and joiner, which IDNA 2003 replaces or drops and IDNA 2008 keeps."""

_ENDS_IN_NUMBER: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9a-fA-F]*)", re.DOTALL)
"""Names that end in a number (127.1, 2130706433, 0x7f.1). They are no DNS names: resolvers take them for addresses."""

_CHARACTERS: Final = re.compile(r"[a-z0-9_.-]+")
"""A host name in lower case. No standard has the underscore, but Windows allows it in the names of machines."""
_FULL_STOPS: Final = re.compile("[.\u3002\uff0e\uff61]")
"""The characters that separate labels (RFC 3490 3.1)."""

_MOST_SHOWN: Final = 4
"""How many names of a certificate an error lists."""


def check_name(link: Link, name: str) -> None:
    """Refuse a server's certificate that is not for `name`.

    Raises:
        Refusal: WRONG_NAME; the reason lists the names that the certificate is for.
    """
    if not link.ask(lambda: _is_for(link.names, name)):
        reason = link.ask(lambda: _why_not(link, name))
        raise Refusal(Verdict.WRONG_NAME, reason, link.position, no_names=link.names is None)


def _is_for(names: x509.SubjectAlternativeName | None, name: str) -> bool:
    if names is None:
        return False
    address = _address(name)
    if address is not None:
        return any(plain_address(its) == address for its in names.get_values_for_type(x509.IPAddress))
    wanted = dns_name(name)
    if wanted is None:
        return False
    return any(_matches(pattern, wanted) for pattern in names.get_values_for_type(x509.DNSName))


def _address(name: str) -> Address | None:
    try:
        return plain_address(ipaddress.ip_address(name))
    except ValueError:
        return None


def plain_address(address: object) -> Address | None:
    """Return an address without its zone, and an IPv4 address in IPv6 form (::ffff:) as an IPv4 address.

    The result is None for anything but an address, such as a network.
    """
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or ipaddress.IPv6Address(int(address))
    return address if isinstance(address, ipaddress.IPv4Address) else None


def dns_name(name: str) -> str | None:
    """Return a DNS name in the form that is compared: its xn-- form, in lower case, without the dot at the end.

    The result is None for a text that cannot be the name of a host.
    """
    if not name.isascii():
        converted = _converted(name)
        if converted is None:
            return None
        name = converted
    name = name.removesuffix(".").lower()
    if not _CHARACTERS.fullmatch(name) or "" in name.split(".") or _ENDS_IN_NUMBER.fullmatch(name):
        return None
    return name


def _converted(name: str) -> str | None:
    if not _DEVIATIONS.isdisjoint(name):
        return None
    try:
        converted = name.encode("idna").decode("ascii").lower()
    except UnicodeError:
        return None
    # Some characters are converted to ASCII that has a meaning of its own, such as a slash, or a dot within a label.
    whole = _CHARACTERS.fullmatch(converted) is not None
    return converted if whole and converted.count(".") == len(_FULL_STOPS.findall(name)) else None


def _matches(pattern: str, name: str) -> bool:
    pattern = pattern.removesuffix(".").lower()
    if not pattern.startswith("*."):
        return pattern == name
    _, _, rest = name.partition(".")
    return rest == pattern[2:] and "." in rest


def _why_not(link: Link, name: str) -> str:
    if link.names is None:
        common_name = link.common_name
        without = f", and its common name {common_name} does not count" if common_name else ""
        return f"{link.who} is not for any host: it has no subjectAltName{without}"
    names = [*link.names.get_values_for_type(x509.DNSName), *link.names.get_values_for_type(x509.IPAddress)]
    listed = ", ".join(shown(str(its)) for its in names[:_MOST_SHOWN]) or "no host"
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return f"{link.who} is not for {shown(name) or 'an empty name'}{_odd(name)}: it is for {listed}{more}"


def _odd(name: str) -> str:
    if not _DEVIATIONS.isdisjoint(name):
        return " (which has two xn-- forms: write the intended one)"
    if name and name.isascii() and _address(name) is None and not _CHARACTERS.fullmatch(name.lower()):
        return " (which no host can be called)"
    return ""
