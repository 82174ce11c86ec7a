"""Schemes, tokens and parameters in header fields of HTTP."""

import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acredssp.http import Challenge, HTTPProtocolError, challenges
from acredssp.http.headers import authorization_token, challenge_token, one_value, parameters, values_of, with_token

TOKEN = bytes(range(256))
TEXT = base64.b64encode(TOKEN).decode()


def offer(*values):
    return [("WWW-Authenticate", value) for value in values]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], []),
        ([""], []),
        (["CredSSP"], [("CredSSP", "", {})]),
        (["CredSSP "], [("CredSSP", "", {})]),
        (["Negotiate", "CredSSP"], [("Negotiate", "", {}), ("CredSSP", "", {})]),
        (["Negotiate, Kerberos,CredSSP"], [("Negotiate", "", {}), ("Kerberos", "", {}), ("CredSSP", "", {})]),
        (["CredSSP YQ=="], [("CredSSP", "YQ==", {})]),
        (["credssp  \t YQ== "], [("credssp", "YQ==", {})]),
        (['CredSSP "YQ=="'], [("CredSSP", "YQ==", {})]),
        (["Negotiate YQ==, CredSSP Yg=="], [("Negotiate", "YQ==", {}), ("CredSSP", "Yg==", {})]),
        (["CredSSP Yg== , Negotiate"], [("CredSSP", "Yg==", {}), ("Negotiate", "", {})]),
        ([", ,CredSSP,"], [("CredSSP", "", {})]),
        (
            ['Basic realm="a, CredSSP YQ==", CredSSP'],
            [("Basic", "", {"realm": "a, CredSSP YQ=="}), ("CredSSP", "", {})],
        ),
        (
            ['Digest realm = "x\\"y" , QOP=auth, CredSSP YQ=='],
            [("Digest", "", {"realm": 'x"y', "qop": "auth"}), ("CredSSP", "YQ==", {})],
        ),
        (["Digest realm=x, CredSSP=y"], [("Digest", "", {"realm": "x", "credssp": "y"})]),
        (["CredSSP not base64, Negotiate"], [("CredSSP", "not base64", {}), ("Negotiate", "", {})]),
        (['"CredSSP", Negotiate'], [("Negotiate", "", {})]),
        (['Basic "CredSSP YQ==, CredSSP YQ=='], [("Basic", '"CredSSP YQ==, CredSSP YQ==', {})]),
    ],
)
def test_the_schemes_that_a_server_offers(values, expected):
    assert [(each.scheme, each.token, each.parameters) for each in challenges(values)] == expected


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ([], None),
        (offer("Negotiate", "Basic realm=CredSSP"), None),
        (offer("Negotiate", "CredSSP"), b""),
        (offer(f"CredSSP {TEXT}"), TOKEN),
        (offer(f"Negotiate, CredSSP {TEXT}"), TOKEN),
        (offer("CredSSP", f"CREDSSP {TEXT}"), TOKEN),
        ([(b"www-authenticate", f"CredSSP {TEXT}".encode())], TOKEN),
        ([("Www-Authenticate", f'CredSSP   "{TEXT}"')], TOKEN),
    ],
)
def test_the_token_of_a_challenge(headers, token):
    assert challenge_token(headers) == token


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ([], None),
        ([("Authorization", "Negotiate YQ==")], None),
        ([("Authorization", "CredSSPx YQ==")], None),
        ([("Authorization", "CredSSP")], b""),
        ([("Authorization", "CredSSP ")], b""),
        ([("Authorization", f"CredSSP {TEXT}")], TOKEN),
        ([("authorization", f"CREDSSP \t{TEXT}  ")], TOKEN),
        ([(b"AUTHORIZATION", f'credssp "{TEXT}"'.encode())], TOKEN),
    ],
)
def test_the_token_of_an_authorization(headers, token):
    assert authorization_token(headers) == token


@pytest.mark.parametrize("text", ["YQ", "YQ=", "Y Q==", "YQ==YQ==", "YQ==, YQ==", "é", "=", "YR==x", "-_-_"])
def test_what_is_not_base64_is_refused(text):
    with pytest.raises(HTTPProtocolError, match="expected a credssp token in base64") as caught:
        authorization_token([("Authorization", f"CredSSP {text}")])
    assert caught.value.http_status == 400
    assert text not in str(caught.value)


def test_a_hundred_challenges_are_read_at_most():
    assert len(challenges(["a, b"] * 100)) == 100
    assert len(challenges(["a," * 1000])) == 100


def test_more_than_one_token_is_refused():
    with pytest.raises(HTTPProtocolError, match="expected one credssp token in www-authenticate, got 2"):
        challenge_token(offer("CredSSP YQ==", "CredSSP YQ=="))
    with pytest.raises(HTTPProtocolError, match="expected one header field Authorization, got 2"):
        authorization_token([("Authorization", "CredSSP YQ=="), ("authorization", "Negotiate")])


def test_values_in_order_whatever_the_case_of_the_name():
    headers = [("A", " 1 "), ("b", "2"), (b"a", b"\t3")]
    assert values_of(headers, "a") == ["1", "3"]
    assert one_value(headers, "B") == "2"
    assert one_value(headers, "c") == ""


def test_the_first_of_two_parameters_counts_and_their_end_is_told():
    assert parameters('a=1;B="2;3" , a=4 rest') == ({"a": "1", "b": "2;3"}, len('a=1;B="2;3" '))


def test_a_challenge_shows_no_token():
    assert "YQ==" not in repr(Challenge("CredSSP", "YQ=="))


@given(st.binary(max_size=100))
def test_a_token_goes_through_both_header_fields(token):
    value = with_token(token)
    assert authorization_token([("Authorization", value)]) == token
    assert challenge_token(offer(f"Negotiate, {value}")) == token


NAMES = st.text("abcXYZ!#-_", min_size=1, max_size=5)
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)
CHALLENGES = st.one_of(
    st.tuples(NAMES, st.binary(max_size=9).map(lambda each: base64.b64encode(each).decode()), st.just({})),
    st.tuples(NAMES, st.just(""), st.dictionaries(NAMES.map(str.lower), VALUES, max_size=3)),
)


def written(scheme, token, values):
    escaped = {name: value.replace("\\", "\\\\").replace('"', '\\"') for name, value in values.items()}
    listed = ", ".join(f'{name}="{value}"' for name, value in escaped.items())
    return f"{scheme} {token or listed}".strip()


@given(st.lists(CHALLENGES, max_size=4), st.sampled_from([",", ", ", " ,\t", None]))
def test_what_was_written_is_read(offered, comma):
    texts = [written(*each) for each in offered]
    read = challenges(texts if comma is None else [comma.join(texts)])
    assert [(each.scheme, each.token, each.parameters) for each in read] == offered


@given(st.text(max_size=60))
def test_any_text_is_read_without_an_error(text):
    challenges([text])
    parameters(text)


@pytest.mark.parametrize(
    "text", ['"', 'a "', "a ", "a=", "a,", '\\"', 'a="', "a " + "b" * 50, ' "', '"a', "\t,", ",", "a b=c,"]
)
def test_the_time_to_read_grows_with_the_length_alone(text):
    """A pattern that goes back over what it took would need minutes."""
    before = time.process_time()
    challenges([text * (1_000_000 // len(text))])
    assert time.process_time() - before < 20
