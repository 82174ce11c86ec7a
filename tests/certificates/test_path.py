"""The search for a path: its bounds, in signatures rather than in seconds."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from support.certificates import NOW, Made, constraints, shared_key

from acredssp.certificates import link, path
from acredssp.trust import Trust, Verdict

ROOT = Made("root", ca=True)


@pytest.fixture
def signatures(monkeypatch):
    """The certificates whose signature was checked."""
    checked = []
    verify = path.verify_signature

    def counted(link, issuer):
        checked.append(link)
        verify(link, issuer)

    monkeypatch.setattr(path, "verify_signature", counted)
    return checked


def judge(chain, *trusted):
    trust = Trust(authorities=tuple([made.certificate for made in trusted or (ROOT,)]))
    return trust.judge([made.der for made in chain], "host.example", NOW)


def with_an_extension_twice(made):
    """Its bytes, changed so that the library refuses them."""
    return made.der.replace(b"\x06\x03\x55\x1d\x23", b"\x06\x03\x55\x1d\x0e")


def twins(count, **changes):
    """Authorities of one name, each signed by itself and by its like."""
    return [Made("twin", ca=True, key=shared_key("ec", "twin"), serial=1000 + n, **changes) for n in range(count)]


def ladder(height, width, kind="ec"):
    """`width` authorities of one name on each of `height` levels, with keys that differ: `width ** height` paths."""
    levels, by = [], None
    for level in range(height):
        key = shared_key(kind, f"level {level}" if kind == "ec" else "all")  # of other kinds one, which takes less time
        levels += [
            made := Made(f"level {level}", by=by, ca=True, key=key, serial=50 * level + n + 1) for n in range(width)
        ]
        by = made
    return [Made("server", by=by), *reversed(levels)]


def test_a_path_takes_one_signature_for_each_link(signatures):
    lower = Made("lower", by=(middle := Made("middle", by=ROOT, ca=True)), ca=True)
    assert judge([Made("server", by=lower), lower, middle]).trusted
    assert len(signatures) == 3


def test_a_trusted_authority_is_asked_before_the_servers_chain(signatures):
    cross = Made("root", by=Made("other", ca=True), ca=True, key=ROOT.key)
    assert judge([Made("server", by=ROOT), cross]).trusted
    assert len(signatures) == 1


@pytest.mark.parametrize("ca", [True, False])
def test_a_certificate_signed_by_itself_is_not_laid_to_an_authority_that_has_its_name_by_chance(ca):
    verdict = judge([Made("localhost")], Made("localhost", ca=ca, key=shared_key("ec", "another")))
    assert not verdict.trusted
    assert verdict.reason == "the server's certificate is signed by itself, and is not among the trusted authorities"


@pytest.mark.parametrize(
    ("kind", "most", "told"),
    [("ec", 2, "signed by itself"), ("ec", 1, "did not sign it"), ("brainpool", 5, "did not sign it")],
    ids=["the last signature", "none left", "too few left for a slow key"],
)
def test_whether_a_certificate_is_signed_by_itself_is_asked_within_the_bound(kind, most, told, monkeypatch):
    monkeypatch.setattr(path, "MOST_SIGNATURES", most)
    namesake = Made("localhost", ca=True, key=shared_key("ec", "another"))
    assert told in judge([Made("localhost", key=kind)], namesake).reason


def test_a_certificate_signed_by_another_one_of_its_name_is_not_signed_by_itself():
    unknown = Made("localhost", ca=True, key=shared_key("ec", "unknown"))
    namesake = Made("localhost", ca=True, key=shared_key("ec", "another"))
    assert "whose key did not sign it" in judge([Made("localhost", by=unknown)], namesake).reason


def test_of_faults_that_tell_as_much_the_first_is_told():
    expired = Made("middle", by=ROOT, ca=True, start=-9, days=-1)
    no_authority = Made("middle", by=ROOT, key=expired.key)
    assert judge([Made("server", by=expired), expired, no_authority]).verdict is Verdict.EXPIRED
    assert judge([Made("server", by=expired), no_authority, expired]).verdict is Verdict.UNTRUSTED


def test_a_certificate_of_the_chain_whose_name_cannot_be_read_is_told_by_its_place():
    server = Made("server", by=Made("unknown", ca=True))
    judgement = Trust(authorities=(ROOT.certificate,)).judge([server.der, b"\x30\x00"], "host.example", NOW)
    assert judgement.position == 1
    assert judgement.reason.startswith("certificate 2 of the server's chain cannot be read")


def test_a_certificate_that_cannot_be_read_hides_no_other_of_its_name():
    middle = Made("middle", by=ROOT, ca=True)
    chain = [Made("server", by=middle).der, with_an_extension_twice(middle), middle.der]
    assert Trust(authorities=(ROOT.certificate,)).judge(chain, "host.example", NOW).trusted


def test_each_certificate_of_the_chain_is_read_once(monkeypatch):
    read = []
    monkeypatch.setattr(path, "read_link", lambda der, *others: read.append(der) or link.read_link(der, *others))
    chain = ladder(3, 3)
    assert not judge(chain).trusted
    assert sorted(read) == sorted(made.der for made in chain)


def test_of_an_authority_with_the_key_of_a_certificate_signed_by_itself_the_fault_is_told():
    own = Made("localhost")
    assert "CN=localhost is not an authority" in judge([own], Made("localhost", key=own.key, serial=7)).reason


def test_an_authority_is_not_taken_twice_into_one_path(signatures):
    """Certificates of one name and key sign each other in every order: their permutations would take for ever."""
    links = twins(9)
    assert judge([Made("server", by=links[0]), *links]).verdict is Verdict.UNTRUSTED
    assert len(signatures) == 9


def test_two_authorities_may_have_one_key():
    key = shared_key("ec", "one key")
    upper = Made("upper", by=ROOT, ca=True, key=key)
    lower = Made("lower", by=upper, ca=True, key=key)
    assert judge([Made("server", by=lower), lower, upper]).trusted


def test_a_certificate_that_was_sent_twice_is_tried_once(signatures):
    unknown = Made("middle", by=Made("unknown", ca=True), ca=True)
    assert not judge([Made("server", by=unknown), unknown, unknown, unknown]).trusted
    assert len(signatures) == 1


def test_names_and_constraints_are_compared_within_a_bound():
    """A trusted authority has signed both, so this takes one with a thousand constraints."""
    trees = [f"{number}.example" for number in range(200)]
    middle = Made("middle", by=ROOT, ca=True, extra=[(constraints([], trees), True)])
    judgement = judge(
        [Made("server", by=middle, names=["host.example", *[f"{n}.example.com" for n in range(200)]]), middle]
    )
    assert judgement.verdict is Verdict.UNTRUSTED
    assert "are too many to compare with the names" in judgement.reason


@pytest.mark.parametrize(("names", "within"), [(128, True), (129, False)])
def test_the_bound_of_comparisons_is_what_is_still_compared(names, within):
    """128 names, the subject among them, and 256 constraints are 1 << 15 comparisons."""
    middle = Made("middle", by=ROOT, ca=True, extra=[(constraints([], [f"{n}.other" for n in range(256)]), True)])
    server = Made("server", by=middle, names=["host.example", *[f"{n}.example" for n in range(names - 2)]])
    judgement = judge([server, middle])
    assert judgement.trusted is within
    assert ("too many to compare" in judgement.reason) is not within


@pytest.mark.parametrize(
    ("excluded", "names", "trusted"),
    [
        (["bad.example"], ["host.example", "192.0.2.1"], True),
        (["host.example"], ["host.example."], False),
        (["other.example"], ["host.example."], True),
        (["192.0.2.0/24"], ["host.example"], True),
    ],
    ids=["a name for an address", "a dot at the end", "a dot at the end of another", "an address for a name"],
)
def test_names_are_compared_with_excluded_trees_of_their_form(excluded, names, trusted):
    middle = Made("middle", by=ROOT, ca=True, extra=[(constraints([], excluded), True)])
    assert judge([Made("server", by=middle, names=names), middle]).trusted is trusted


class Unreadable:
    """An authority whose bytes nobody can read."""

    def public_bytes(self, _):
        return b"\x30\x00"


def test_an_authority_that_cannot_be_read_takes_no_other_with_it():
    anchors = path.Anchors([Unreadable(), ROOT.certificate])
    assert anchors.find(ROOT.der) is ROOT.certificate


def test_the_name_of_a_certificate_is_put_into_words_once(monkeypatch):
    """A name may fill a certificate, and a search that leads nowhere refuses one many times."""
    shown = []
    monkeypatch.setattr(link, "shown_name", lambda read: shown.append(read) or "a name")
    chain = ladder(3, 3)
    assert not judge(chain).trusted
    assert len(shown) <= len(chain) + 1


def test_what_costs_nothing_is_asked_before_a_signature(signatures):
    links = twins(9, days=-1, start=-9)
    assert judge([Made("server", by=links[0]), *links]).verdict is Verdict.EXPIRED
    assert signatures == []


@pytest.mark.parametrize(("height", "width"), [(2, 4), (3, 3), (4, 2)])
def test_many_paths_that_lead_nowhere_take_no_more_signatures_than_the_bound(height, width, signatures):
    judgement = judge(ladder(height, width))
    assert judgement.verdict is Verdict.UNTRUSTED
    assert len(signatures) <= path.MOST_SIGNATURES


def test_the_bound_of_signatures_is_a_refusal_of_its_own(signatures, monkeypatch):
    monkeypatch.setattr(path, "MOST_SIGNATURES", 5)
    judgement = judge(ladder(3, 3))
    assert judgement.verdict is Verdict.UNTRUSTED
    assert judgement.position == 0
    assert "more than 5 signatures" in judgement.reason
    assert len(signatures) == 5


@pytest.mark.parametrize(
    ("key", "most"),
    [("ec", 50), ("rsa", 50), ("p384", 16), ("p521", 16), ("brainpool", 10), ("rsa with a long exponent", 10)],
)
@pytest.mark.thorough
def test_signatures_that_take_long_count_as_several(key, most, signatures):
    """A stranger chooses the keys."""
    assert judge(ladder(3, 3, key)).verdict is Verdict.UNTRUSTED
    assert len(signatures) == min(most, 39)  # paths of 3, 3 * 3 and 3 * 3 * 3 authorities


@pytest.mark.parametrize(
    ("bits", "exponent", "price"),
    [(4096, 65537, 1), (4097, 65537, 5), (2048, (1 << 32) - 1, 1), (2048, (1 << 32) + 1, 5)],
)
def test_a_signature_of_rsa_counts_as_several_beyond_the_usual_size(bits, exponent, price):
    assert path._price(rsa.RSAPublicNumbers(exponent, (1 << (bits - 1)) + 1).public_key()) == price


def test_a_signature_of_an_edwards_curve_counts_as_one():
    assert path._price(ed25519.Ed25519PrivateKey.generate().public_key()) == 1


@pytest.mark.parametrize("key", ["brainpool", "p521", "rsa with a long exponent"])
def test_the_longest_chain_is_within_the_bound_whatever_its_keys(key, signatures):
    by = ROOT
    links = [
        by := Made(f"level {number}", by=by, ca=True, key=shared_key(key, "all"))
        for number in range(path.MOST_CERTIFICATES - 1)
    ]
    assert judge([Made("server", by=by), *reversed(links)]).trusted
    assert len(signatures) == path.MOST_CERTIFICATES


def test_a_path_among_cross_signed_twins_is_found_within_the_bound(signatures):
    """Each of two authorities was signed by two others, of whom one is known."""
    unknown = Made("unknown", ca=True)
    key = shared_key("ec", "upper")
    uppers = [Made("upper", by=by, ca=True, key=key) for by in (unknown, unknown, ROOT)]
    lowers = [Made("lower", by=uppers[0], ca=True, key=shared_key("ec", "lower"), serial=n) for n in (1, 2, 3)]
    assert judge([Made("server", by=lowers[0]), *lowers, *uppers]).trusted
    assert len(signatures) <= 10


def test_a_chain_that_is_too_long_is_not_looked_at(signatures):
    judgement = judge([Made("server", by=ROOT), *twins(10)])
    assert judgement.verdict is Verdict.UNTRUSTED
    assert judgement.position == 0
    assert "11 certificates, expected at most 10" in judgement.reason
    assert signatures == []


def test_a_chain_that_is_too_large_is_not_looked_at(signatures):
    names = [f"{'a' * 60}.{number}.example" for number in range(900)]
    judgement = judge([Made("server", by=ROOT, names=names), Made("other", by=ROOT, names=names)])
    assert judgement.verdict is Verdict.UNTRUSTED
    assert judgement.position == 0
    assert "expected at most 65536" in judgement.reason
    assert signatures == []


@pytest.mark.parametrize(("less", "within"), [(0, True), (1, False)])
def test_a_chain_may_have_as_many_bytes_as_the_bound(less, within, monkeypatch):
    chain = [Made("server", by=ROOT), ROOT]
    monkeypatch.setattr(path, "MOST_BYTES", sum(len(made.der) for made in chain) - less)
    assert judge(chain).trusted is within


def test_a_trusted_authority_that_cannot_be_read_vouches_for_nobody_and_harms_nobody():
    odd = Made("odd", ca=True)
    unreadable = path.x509.load_der_x509_certificate(with_an_extension_twice(odd))
    trust = Trust(authorities=(unreadable, ROOT.certificate))
    assert trust.judge([Made("server", by=ROOT).der], "host.example", NOW).trusted
    assert not trust.judge([Made("server", by=odd).der], "host.example", NOW).trusted


def test_a_root_is_read_when_it_is_needed_and_only_then():
    anchors = path.Anchors([ROOT.certificate, Made("other", ca=True).certificate])
    assert [link.certificate for link in anchors.named(path.front(ROOT.der).subject)] == [ROOT.certificate]
    assert len(anchors._links) == 1
    assert anchors.named(b"nobody") == []
