"""What is no HTTP: the words in which every server refuses it, which never quote the client."""

import h11
import pytest

from acredssp.http.h11_parser import ServerParser

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("data", "status", "text"),
    [
        (b"c4nary\r\n\r\n", 400, "expected a request of http/1.1, got something else"),
        (HEAD + b"c4nary\r\n\r\n", 400, "expected a request of http/1.1, got something else"),
        (HEAD + b"Content-Length: c4nary\r\n\r\n", 400, "expected a request of http/1.1, got something else"),
        (b"POST / HTTP/1.1\r\n\r\n", 400, "expected one header field Host, got none or several"),
        (HEAD + b"Host: c4nary\r\n\r\n", 400, "expected one header field Host, got none or several"),
        (HEAD + b"Transfer-Encoding: c4nary\r\n\r\n", 501, "expected the transfer-encoding chunked alone, got another"),
        (HEAD + b"X: c4nary" + b"x" * 2_000, 431, "expected header fields of at most 1000 bytes, got more"),
    ],
    ids=["no request", "no field", "no length", "no host", "two hosts", "another coding", "too large"],
)
def test_what_is_no_http_is_told_in_our_words(data, status, text):
    parser = ServerParser(1_000)
    parser.receive_data(data)
    with pytest.raises(h11.RemoteProtocolError):
        parser.next_event()
    assert parser.refusal == (status, text)
