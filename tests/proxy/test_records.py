"""Lines of JSON: one for each record of the log, whatever a peer says of itself."""

import json
import logging
import sys

import pytest

from acredssp.proxy.records import ConnectionRecord, JSONLines, log_record


@pytest.fixture
def lines():
    """What the formatter writes of what is logged meanwhile."""
    written, logger = [], logging.getLogger("acredssp.proxy")

    class Handler(logging.Handler):
        def emit(self, record):
            written.append(self.format(record))

    handler = Handler()
    handler.setFormatter(JSONLines())
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield written
    logger.removeHandler(handler)
    logger.setLevel(level)


def test_a_connection_is_an_object_with_its_fields(lines):
    log_record(
        ConnectionRecord(
            connection_id="ab12",
            listener="127.0.0.1:3389",
            peer=("192.0.2.7", 4711),
            user="ev\nil\x1b[2J",
            outcome="relayed",
            ended_by="client",
            seconds={"front": 0.123456789},
            bytes_up=7,
        )
    )
    (line,) = lines
    assert line.isprintable()
    told = json.loads(line)
    assert told.pop("time")[10] == "T"
    assert told == {
        "level": "info",
        "logger": "acredssp.proxy",
        "message": "connection",
        "connection_id": "ab12",
        "listener": "127.0.0.1:3389",
        "peer": ["192.0.2.7", 4711],
        "user": "ev\nil\x1b[2J",
        "outcome": "relayed",
        "ended_by": "client",
        "seconds": {"front": 0.1235},
        "bytes_up": 7,
    }


@pytest.mark.parametrize(("outcome", "level"), [("relayed", "info"), ("no_data", "info"), ("denied", "warning")])
def test_what_was_refused_is_a_warning(lines, outcome, level):
    log_record(ConnectionRecord(connection_id="1", listener="", peer=None, outcome=outcome))
    assert json.loads(lines[0])["level"] == level


def test_any_other_line_has_its_message_its_connection_and_its_error(lines):
    try:
        int("no")
    except ValueError:
        extra = {"connection_id": "cd34"}
        logging.getLogger("acredssp.proxy").warning("two\nlines of %s", "text", exc_info=sys.exc_info(), extra=extra)
    told = json.loads(lines[0])
    assert "\n" not in lines[0]
    assert (told["message"], told["connection_id"]) == ("two\nlines of text", "cd34")
    assert told["error"].startswith("Traceback")
