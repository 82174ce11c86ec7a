"""The tests are shared out so that no test is lost, nothing dear is made twice, and no two processes meet."""

from pathlib import Path

import pytest
from support import parallel, peers

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("nodeid", "share"),
    [
        ("tests/wire/test_der.py::test_it", "tests/wire/test_der.py"),
        ("tests/wire/test_der.py::test_it[a::b]", "tests/wire/test_der.py"),
        ("tests/http/test_served.py::test_it", "tests/http/test_served.py::test_it"),
        ("tests/http/test_served.py::test_it[asyncio-a[0]::b]", "tests/http/test_served.py::test_it"),
        ("tests/interop/test_proxy_cluster.py::test_it[uvloop]", "tests/interop/test_proxy_cluster.py"),
        ("tests/interop/test_lab.py::test_it", "a Samba domain"),
        ("tests/interop/test_samba.py::test_it", "a Samba domain"),
        ("tests/interop/test_proxy_domain.py::test_it[a]", "a Samba domain"),
    ],
)
def test_a_test_is_handed_out_with_its_file_or_its_function(nodeid, share):
    assert parallel.share(nodeid) == share


@pytest.mark.parametrize("name", [*parallel.SPREAD, *parallel.WHOLE, *parallel.IN_A_DOMAIN, *parallel.FIRST])
def test_what_is_named_is_there(name):
    assert (ROOT / name).exists()


def test_what_takes_longest_comes_first():
    names = ["tests/wire/test_der.py::a", *(f"{name}/test_it.py::a" for name in reversed(parallel.FIRST))]
    assert sorted(names, key=parallel.rank) == [*names[:0:-1], names[0]]


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_no_two_processes_have_a_port_in_common(count, monkeypatch):
    handed_out = []
    for number in range(count):
        monkeypatch.setattr(peers, "_ports", iter(peers.PORTS))
        peers.share_ports(number, count)
        handed_out += peers._ports
    assert sorted(handed_out) == list(peers.PORTS)
    assert max(handed_out) < 32768


def test_what_needs_a_samba_domain_is_in_one_process(request):
    """A parameter of that name is none of a session."""
    given = [(item.nodeid, item._fixtureinfo.name2fixturedefs.get("domain", ())) for item in request.session.items]
    needing = {parallel.share(nodeid) for nodeid, made in given if any(each.scope == "session" for each in made)}
    assert needing <= {"a Samba domain"}
