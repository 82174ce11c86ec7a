"""Name constraints of authorities (RFC 5280 4.2.1.10): which names the certificates below them may have.

Constraints on DNS names and addresses are compared. Constraints on other forms (directory names, mail addresses, URIs)
are not compared: a certificate below the authority that has a name of such a form is refused.
"""

import ipaddress
from collections.abc import Sequence
from typing import Final

from cryptography import x509

from acredssp.certificates.host_names import plain_address
from acredssp.certificates.judgement import Refusal, Verdict
from acredssp.certificates.link import Link, shown

__all__ = ["check_constraints"]

_MOST_COMPARISONS: Final = 1 << 15
"""The most names times constraints: as of a thousand names below an authority with thirty constraints."""

_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")
"""The IPv6 network that stands for IPv4 addresses."""


def check_constraints(path: Sequence[Link]) -> None:
    """Refuse a path where a certificate has a name that an authority above it may not vouch for.

    Args:
        path: The server's certificate first, the trusted authority last.

    Raises:
        Refusal: UNTRUSTED; the reason has the authority and the name.
    """
    for height, authority in enumerate(path):
        constraints = authority.constraints
        if constraints is None or not height:
            continue
        authority.ask(lambda by=authority: _check_form_of_trees(by))  # type: ignore[misc]
        for link in path[:height]:
            # A self-issued authority is the authority above it with another key. A server's certificate is never that.
            if link is path[0] or not link.self_issued:
                authority.ask(lambda link=link, by=authority: _check(by, link))  # type: ignore[misc]


def _check_form_of_trees(authority: Link) -> None:
    """Refuse a subtree with a minimum or maximum, which RFC 5280 4.2.1.10 forbids and the certificate library drops."""
    assert authority.constraints is not None
    if authority.constraints.public_bytes() not in authority.der:
        reason = f"the name constraints of {authority.who} have a minimum or a maximum, which rfc 5280 forbids"
        raise Refusal(Verdict.UNTRUSTED, reason, authority.position)


def _check(authority: Link, link: Link) -> None:
    assert authority.constraints is not None
    permitted = authority.constraints.permitted_subtrees or []
    excluded = authority.constraints.excluded_subtrees or []
    names = _names(link)
    if len(names) * (len(permitted) + len(excluded)) > _MOST_COMPARISONS:
        raise _refusal(authority, link, "are too many to compare with the names")
    for name in names:
        _check_form(authority, link, name, [*permitted, *excluded])
        if any(_within(name, tree, widely=True) for tree in excluded):
            raise _refusal(authority, link, f"exclude the name {shown(str(name.value))}")
        of_its_form = [tree for tree in permitted if type(tree) is type(name)]
        if of_its_form and not any(_within(name, tree) for tree in of_its_form):
            raise _refusal(authority, link, f"do not allow the name {shown(str(name.value))}")


def _names(link: Link) -> list[x509.GeneralName]:
    """The names that constraints apply to: the subject, where there is one, and the alternative names."""
    names: list[x509.GeneralName] = list(link.names or ())
    subject = link.certificate.subject
    if subject.rdns:
        names.append(x509.DirectoryName(subject))
    addresses = subject.get_attributes_for_oid(x509.NameOID.EMAIL_ADDRESS)
    return [*names, *[x509.RFC822Name(str(address.value)) for address in addresses]]


def _check_form(authority: Link, link: Link, name: x509.GeneralName, trees: Sequence[x509.GeneralName]) -> None:
    if isinstance(name, x509.DNSName | x509.IPAddress):
        return
    if any(type(tree) is type(name) for tree in trees):
        raise _refusal(authority, link, f"have entries for {type(name).__name__}, which cannot be checked for the name")


def _within(name: x509.GeneralName, tree: x509.GeneralName, *, widely: bool = False) -> bool:
    """Whether a subtree contains a name; with `widely`, whether it contains any name that a wildcard may stand for."""
    if isinstance(name, x509.DNSName) and isinstance(tree, x509.DNSName):
        # OpenSSL finds no name in a permitted tree with a dot at its end. In an excluded tree the dot is ignored here.
        domain = tree.value.lower().removesuffix(".") if widely else tree.value.lower()
        return _dns_within(name.value.lower().removesuffix("."), domain, widely=widely)
    if isinstance(name, x509.IPAddress) and isinstance(tree, x509.IPAddress):
        network = tree.value
        assert isinstance(network, ipaddress.IPv4Network | ipaddress.IPv6Network)
        # An address in ::ffff:0:0/96 is compared with a client's as the IPv4 address that it stands for. So a permitted
        # IPv6 tree contains it only where the whole tree lies in that network: ::/0 does not permit any IPv4 address.
        if plain_address(name.value) in network:
            return True
        if name.value not in network:
            return False
        return widely or (isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED))
    return False


def _dns_within(name: str, tree: str, *, widely: bool) -> bool:
    if not tree or name == tree or name.endswith(tree if tree.startswith(".") else f".{tree}"):
        return True
    _, _, parent = tree.partition(".")
    return widely and name.startswith("*.") and bool(parent) and name[2:] == parent


def _refusal(authority: Link, link: Link, what: str) -> Refusal:
    return Refusal(Verdict.UNTRUSTED, f"the name constraints of {authority.who} {what} of {link.who}", link.position)
