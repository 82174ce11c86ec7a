"""Facts of a certificate, read from its DER, for the attributes of a context."""

import contextlib

from acredssp.certificates.judgement import Refusal
from acredssp.certificates.link import read_link
from acredssp.certificates.path import verify_signature

__all__ = ["is_self_signed"]


def is_self_signed(certificate: bytes) -> bool:
    """Return whether the certificate's own key has signed it; False for a certificate that cannot be read."""
    with contextlib.suppress(Refusal):
        link = read_link(certificate, 0)
        if link.self_issued:
            verify_signature(link, link)
            return True
    return False
