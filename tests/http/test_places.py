import pytest

from acredssp.errors import LimitExceeded
from acredssp.http.limits import HTTPLimits
from acredssp.http.places import places_of


class Connection:
    source, proven = "192.0.2.1", False


def test_the_log_gets_one_line_a_minute_with_how_many_there_were(caplog):
    caplog.set_level("INFO", "acredssp")
    now = [1_000.0]
    places = places_of(HTTPLimits(connections_per_source=1), lambda: now[0])
    places.enter(Connection())
    for now[0] in (1_000.0, 1_000.0, 1_059.9, 1_060.0, 1_100.0):
        with pytest.raises(LimitExceeded):
            places.enter(Connection())
    lines = [each.getMessage() for each in caplog.records]
    assert [line.partition(";")[0][-3:] for line in lines] == [": 1", ": 3"]
    assert all("192.0.2.1 (where many clients" in line for line in lines)
