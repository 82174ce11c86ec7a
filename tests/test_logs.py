"""The log's records of a connection have its id, and so have those of a gateway's second leg."""

import asyncio
import logging

import pytest
from support.endpoints import BOB, SPN, client_config, server_config, until

import acredssp
from acredssp.logs import get_logger

HOST = "127.0.0.1"


@pytest.fixture(autouse=True)
def everything_is_logged(caplog):
    caplog.set_level(logging.DEBUG, "acredssp")


def test_outside_of_a_connection_there_is_no_id(caplog):
    get_logger("acredssp").info("about nobody")
    assert [record.connection_id for record in caplog.records] == [""]
    assert acredssp.connection_id() == ""


def test_a_logger_that_is_asked_for_again_has_its_filter_once():
    assert len(get_logger("acredssp").filters) == len(get_logger("acredssp").filters) == 1


async def listen(handler, config, **options):
    server = await acredssp.start_server(handler, HOST, 0, config=config, **options)
    return server, server.sockets[0].getsockname()[1]


async def connect(port):
    reader, writer = await acredssp.open_connection(
        HOST, port, config=client_config(), server_hostname="localhost", spn=SPN
    )
    await reader.read()
    writer.close()
    await writer.wait_closed()


async def test_hooks_application_report_and_records_have_one_id_a_connection(caplog):
    ids, reports = [], []

    async def handler(_reader, writer):
        ids.append((acredssp.connection_id(), writer.get_extra_info("connection_id")))
        writer.close()

    def hook(_asked):
        ids.append((acredssp.connection_id(),) * 2)
        return BOB

    def authorize(_identity):
        ids.append((acredssp.connection_id(),) * 2)
        return True

    config = server_config(lookup=hook, authorize=authorize)
    server, port = await listen(handler, config, accept=hook, on_handshake=reports.append)
    async with server:
        await connect(port)
        await connect(port)
    told = [report.connection_id for report in reports]
    assert len(set(told)) == 2
    assert ids == [(name, name) for name in told for _ in range(4)]
    established = [record for record in caplog.records if record.getMessage().endswith("established")]
    assert [record.connection_id for record in established] == told
    assert acredssp.connection_id() == ""


async def test_both_legs_of_a_gateway_have_the_id_of_the_first(caplog):
    seen = {}

    async def target(_reader, writer):
        writer.close()

    async def gateway(_reader, writer):
        seen["front"] = acredssp.connection_id()
        await connect(target_port)
        seen["after"] = acredssp.connection_id()
        writer.close()

    target_server, target_port = await listen(target, server_config())
    front, port = await listen(gateway, server_config())
    async with target_server, front:
        await connect(port)
    audited = [record.connection_id for record in caplog.records if record.name == "acredssp.audit"]
    assert audited[1] == seen["front"] == seen["after"]  # the target leg's; the first is the client's own
    assert audited[0] != audited[1]


@pytest.mark.parametrize("accept", [lambda _address: False, lambda _address: 1 / 0], ids=["refuses", "raises"])
async def test_a_connection_that_is_turned_away_has_an_id_too(accept, caplog):
    reports = []
    server, port = await listen(lambda *_: None, server_config(), accept=accept, on_handshake=reports.append)
    async with server:
        _, writer = await asyncio.open_connection(HOST, port)
        await until(lambda: reports)
        writer.close()
    assert len(reports[0].connection_id) == 16
    assert {record.connection_id for record in caplog.records if record.name == "acredssp"} == {
        reports[0].connection_id
    }
