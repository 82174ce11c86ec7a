import pytest

from acredssp.aio.sources import source_of


@pytest.mark.parametrize(
    ("address", "source"),
    [
        (("192.0.2.7", 50123), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 50123, 0, 0), "2001:db8:1:2::/64"),
        (("2001:db8:1:2:ffff::1", 50123, 0, 0), "2001:db8:1:2::/64"),
        (("2001:db8:1:3::1", 50123, 0, 0), "2001:db8:1:3::/64"),
        (("::ffff:192.0.2.7", 50123, 0, 0), "192.0.2.7"),
        (("fe80::1%eth0", 50123, 0, 2), "fe80::/64"),
        (("::1", 50123, 0, 0), "::/64"),
        (("memory", 3389), "memory"),
        (("not:an:address", 1), "not:an:address"),
        ("", "no address"),
        (None, "no address"),
        (b"\0abstract", "no address"),
        ((), "no address"),
    ],
)
def test_a_source_is_an_ipv4_address_or_the_network_of_an_ipv6_address(address, source):
    assert source_of(address) == source
