"""Two TLS sessions after their handshake, and the key of a certificate as another library reads it."""

import ssl

from asn1crypto import pem as asn1_pem
from asn1crypto import x509 as asn1_x509

from acredssp import tls_config
from acredssp.core.tls import TLSSession
from acredssp.policy import Policy

TLS12 = Policy(max_tls=ssl.TLSVersion.TLSv1_2)
TLS13 = Policy(min_tls=ssl.TLSVersion.TLSv1_3)


def subject_public_key(certificate_pem: bytes) -> bytes:
    """By asn1crypto, which shares no code with ours."""
    _, _, der = asn1_pem.unarmor(certificate_pem)
    info = asn1_x509.Certificate.load(der)["tbs_certificate"]["subject_public_key_info"]
    return info["public_key"].contents[1:]


def pair(policy: Policy, server_context: ssl.SSLContext) -> tuple[TLSSession, TLSSession]:
    client = TLSSession(tls_config.client_context(policy), server_side=False, server_hostname="localhost")
    server = TLSSession(server_context, server_side=True)
    shake_hands(client, server)
    return client, server


def shake_hands(client: TLSSession, server: TLSSession) -> None:
    flight = b""
    for _ in range(5):
        done = client.handshake(flight)
        done = server.handshake(client.output()) and done
        flight = server.output()
        if done:
            client.read(flight)
            return
    raise AssertionError("the tls handshake does not end")
