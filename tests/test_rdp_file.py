"""The .rdp files. OpenSSL reads their signatures here; mstsc has not been tried."""

import base64
import datetime as dt
import struct
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from support.peers import program

from acredssp.rdp_file import FileSigner, rdp_file

TOKEN = "acredssp=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


def certificate(name, key, issuer=None, issuer_key=None):
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer or name)]),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
        key.public_key(),
        x509.random_serial_number(),
        now - dt.timedelta(days=1),
        now + dt.timedelta(days=1),
    ).add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    return builder.sign(issuer_key or key, hashes.SHA256())


def pem_of(key):
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.fixture(scope="module")
def material():
    """(authority, signer's chain in PEM, signer's key in PEM)."""
    top, key = (rsa.generate_private_key(65537, 2048) for _ in range(2))
    authority = certificate("authority", top)
    chain = [certificate("signer", key, "authority", top), authority]
    pem = serialization.Encoding.PEM
    return authority.public_bytes(pem), b"".join(each.public_bytes(pem) for each in chain), pem_of(key)


def parsed(content):
    """{name with its type: value} of a file, in its order."""
    assert content[:2] == b"\xff\xfe"
    lines = content[2:].decode("utf-16-le").split("\r\n")
    assert lines.pop() == ""
    return {":".join(line.split(":", 2)[:2]): line.split(":", 2)[2] for line in lines}


def test_a_file_without_a_signature():
    assert parsed(rdp_file("gw.example.com:3390", TOKEN, "CONTOSO\\alice")) == {
        "full address:s": "gw.example.com:3390",
        "alternate full address:s": "gw.example.com:3390",
        "enablecredsspsupport:i": "1",
        "prompt for credentials:i": "0",
        "authentication level:i": "2",
        "loadbalanceinfo:s": TOKEN,
        "username:s": "CONTOSO\\alice",
    }


@pytest.mark.parametrize("where", [0, 1, 2])
def test_no_text_begins_a_line_of_its_own(where):
    texts = ["gw", TOKEN, "alice"]
    texts[where] += "\r\nalternate shell:s:calc.exe"
    with pytest.raises(ValueError, match="printable"):
        rdp_file(*texts)


def signed_parts(content):
    """(what is signed, the signature in DER) as a reader of the file finds them, by the names in `signscope`."""
    lines = parsed(content)
    by_name = {name.split(":")[0].replace(" ", "").lower(): f"{name}:{value}" for name, value in lines.items()}
    scope = lines["signscope:s"].split(",")
    text = "".join(f"{by_name[name.replace(' ', '').lower()]}\r\n" for name in scope)
    raw = base64.b64decode(lines["signature:s"], validate=True)
    first, second, size = struct.unpack_from("<III", raw)
    assert (first, second, size) == (0x00010001, 1, len(raw) - 12)
    return f"{text}signscope:s:{lines['signscope:s']}\r\n\0".encode("utf-16-le"), raw[12:]


def verified(folder, message, signature, authority):
    """Whether OpenSSL takes the signature."""
    for name, content in {"message": message, "signature": signature, "authority.pem": authority}.items():
        (folder / name).write_bytes(content)
    return subprocess.run(
        [program("openssl"), "cms", "-verify", "-binary", "-inform", "DER", "-in", "signature", "-content", "message",
         "-CAfile", "authority.pem", "-purpose", "any", "-out", "out"], cwd=folder, capture_output=True, check=False,
    ).returncode == 0  # fmt: skip


def test_openssl_takes_the_signature_of_all_lines_that_matter(tmp_path, material):
    authority, chain, key = material
    content = rdp_file("gw.example.com", TOKEN, "alice", FileSigner.from_pem(chain, key))
    message, signature = signed_parts(content)
    assert parsed(content)["signscope:s"] == (
        "Full Address,Alternate Full Address,EnableCredSspSupport,Prompt For Credentials,Authentication Level,"
        "LoadBalanceInfo"
    )
    assert verified(tmp_path, message, signature, authority)
    for old, new in (("gw.example.com", "gw.example.org"), ("AAAA", "AAAB"), ("level:i:2", "level:i:0")):
        changed = message.replace(old.encode("utf-16-le"), new.encode("utf-16-le"), 1)
        assert changed != message
        assert not verified(tmp_path, changed, signature, authority)


def test_the_signature_is_the_one_that_openssl_makes(tmp_path, material):
    """RSA with PKCS#1 v1.5 and no attributes gives one signature for one message; the structure around it is equal."""
    _, chain, key = material
    signer = FileSigner.from_pem(chain, key)
    for name, content in {"chain.pem": chain, "key.pem": key, "message": b"m\0e\0"}.items():
        (tmp_path / name).write_bytes(content)
    theirs = subprocess.run(
        [program("openssl"), "smime", "-sign", "-binary", "-noattr", "-md", "sha256", "-signer", "chain.pem", "-inkey",
         "key.pem", "-certfile", "chain.pem", "-outform", "DER", "-in", "message"],
        cwd=tmp_path, capture_output=True, check=True,
    ).stdout  # fmt: skip
    ours = signer.sign(b"m\0e\0")
    assert ours[-256:] == theirs[-256:]
    assert b"m\0e\0" not in ours, "the signature is detached"


@pytest.mark.parametrize("what", ["no pem", "another key", "an elliptic key", "a password"])
@pytest.mark.thorough
def test_a_signer_that_is_none_is_refused(what, material):
    _, chain, key = material
    elliptic = ec.generate_private_key(ec.SECP256R1())
    locked = serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    )
    chain, key = {
        "no pem": (b"chain", b"key"),
        "another key": (chain, pem_of(rsa.generate_private_key(65537, 2048))),
        "an elliptic key": (chain, pem_of(elliptic)),
        "a password": (chain, locked),
    }[what]
    with pytest.raises(ValueError, match="expected"):
        FileSigner.from_pem(chain, key)
