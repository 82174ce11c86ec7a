"""docs/migration.md says what is so: its code runs from the top to the end, row by row and block by block."""

import ast
import asyncio
import contextlib
import inspect
import re
from pathlib import Path

import httpx  # noqa: F401 - the page imports it on the loop, and the first import reads files
import pytest
from support.endpoints import _CONTEXTS, PIN
from support.http_toy import TRUSTING
from support.streams import memory_streams
from support.wsman_http import app_of
from support.wsman_toy import Toy, greet

import acredssp
from acredssp.http.server import start_http_server
from acredssp.sspi import SEC_E_LOGON_DENIED, SEC_E_OK, establish, secure_streams, unpack_credentials
from acredssp.winrm.httpx import connect  # noqa: F401 - as httpx
from acredssp.winrm.messages import IDENTIFY

PAGE = (Path(__file__).parent.parent / "docs" / "migration.md").read_text(encoding="utf-8")
COLUMNS = 5


def snippets():
    """The code of acredssp in the order of the page: each block, and the last cell of each row."""
    for block, row in re.findall(r"```python\n(.*?)```|^\|([^\n]*)\|$", PAGE, re.DOTALL | re.MULTILINE):
        if block:
            yield block
        elif re.search(r"[a-z]", row):
            cells = [cell.strip() for cell in row.split("|")]
            assert len(cells) == COLUMNS, row
            if cells[0]:  # the head has none
                (code,) = re.findall(r"`([^`]+)`", cells[-1])
                yield code


async def run(code, names):
    value = eval(compile(code, "docs/migration.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)  # noqa: S307
    if inspect.iscoroutine(value):
        await value


TLS = _CONTEXTS[acredssp.Policy().min_tls, acredssp.Policy().max_tls]


async def lookup(request):
    return acredssp.Password("wonderland") if request.principal.user == "alice" else acredssp.Deny()


@pytest.fixture
def given():
    """What the page says that its code needs."""
    return {
        "trust": acredssp.Trust.pinned(PIN),
        "tls": TLS,
        "envelope": IDENTIFY,
        "context": TRUSTING,
    }


@contextlib.asynccontextmanager
async def winrm():
    """A service for the second half of the page; yield its url."""
    toy = Toy({"ipconfig": greet})
    config = acredssp.ServerConfig(ssl_context=TLS, lookup=lookup)
    server = await start_http_server(app_of(toy), "127.0.0.1", 0, config=config)
    async with server:
        yield f"http://localhost:{server.sockets[0].getsockname()[1]}/wsman"
        await toy.aclose()


async def test_the_page_runs_from_its_top_to_its_end(given):
    async with winrm() as given["url"]:
        await follow(given)
    assert (given["answer"].status_code, given["answer"].extensions["credssp_sealed"]) == (200, True)
    assert (given["out"], given["err"], given["code"]) == ("hello\r\n", "oh\r\n", 3)
    assert "check the user, the domain and the password" in given["why"]


async def follow(given):
    client, server = memory_streams()
    given["reader"], given["writer"] = client
    told, accepting = [], None
    for code in snippets():
        if "establish(" in code:
            accepting = asyncio.ensure_future(establish(*server, given["server_config"]))
        await run(code, given)
        if given.get("status") is not None:
            assert given.pop("status") is SEC_E_OK, code
            told.append(code)
    assert len(told) == 3  # the rows that ask for an attribute
    assert given["data"] == b"hello"
    assert given["delegated"]
    assert given["expiry"] is None
    assert given["names"].sUserName == "CONTOSO\\alice"
    assert unpack_credentials(given["creds"].AuthBuffer).Password == "wonderland"
    assert given["goodbye"]
    assert given["refused"] is SEC_E_LOGON_DENIED
    assert given["farewell"]
    assert given["handle"].valid
    reader, writer = await secure_streams(await accepting, *server)
    assert await reader.readexactly(5) == b"hello"
    for end in given["writer"], writer, client[1], server[1]:
        end.close()


def test_every_row_has_its_code():
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and line[2] not in "|-"]
    assert len(rows) > 10
    assert len(list(snippets())) == len(rows) + PAGE.count("```python")
