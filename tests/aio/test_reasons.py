"""Why something failed, in words."""

import errno
import socket
import ssl

import pytest

from acredssp.aio import reason_of


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (None, ""),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 1)"), "connection refused"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/absent"), "no such file or directory"),
        (TimeoutError("it does not answer within 5 seconds"), "it does not answer within 5 seconds"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (socket.gaierror(1, "Address family not supported"), "Address family not supported"),
        (socket.gaierror(), ""),
        (OSError(-3001, "unknown node or service"), "unknown node or service"),
        (
            UnicodeError("encoding with 'idna' codec failed (UnicodeError: label too long)"),
            "the name of no host can have such a part between its dots, expected 1 to 63 characters",
        ),
        (ValueError("expected a port"), "expected a port"),
    ],
    ids=["none", "refused", "file", "text", "resolver", "resolver's number", "nothing", "uv", "unicode", "other"],
)
def test_the_reason_is_said_in_words(error, words):
    assert reason_of(error) == words


def test_a_reason_of_openssl_is_not_taken_for_the_systems():
    incoming = ssl.MemoryBIO()
    incoming.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    client = ssl.create_default_context().wrap_bio(incoming, ssl.MemoryBIO(), server_hostname="host")
    with pytest.raises(ssl.SSLError) as caught:
        client.do_handshake()
    assert caught.value.errno == 1
    assert reason_of(caught.value) in {"wrong version number", "packet length too long"}
