"""Imports point down, and every dependency enters by its one door. The tables here are the map: keep them true."""

import ast
import functools
import graphlib
import sys
from pathlib import Path

import pytest
from test_public_api import MODULES

PACKAGE = Path(__file__).parent.parent / "acredssp"

LAYERS = (
    ("arguments", "hints", "logs", "names", "status", "values"),
    ("errors", "tracebacks"),
    ("md4", "secret", "credentials", "policy", "delegation"),
    ("wire",),
    ("mechanisms",),
    ("core",),
    ("tls_config", "certificates", "sni", "tls", "trust", "hooks", "config", "events"),
    ("carriage", "rdp", "rdp_file"),
    ("diagnosis",),
    ("aio",),
    ("accounts",),  # above aio for winbind
    ("sspi",),  # above aio for its thread pool and its way to ask hooks
    ("ctrl_c",),
    ("",),  # the package itself: the public names
    ("stores", "workers", "hosts", "anyio"),
    ("http",),
    ("winrm",),
    ("proxy",),
    ("decoding",),  # above http for its header fields
    ("recording",),
    ("testing",),
    ("cli", "__main__"),
)
"""From the bottom up. A module imports from its own layer and from those before it, never from one after it."""

DOORS = {
    "anyio": ("anyio",),
    "arc4": ("mechanisms.ntlm",),
    "asn1crypto": ("wire",),
    "asyncio": (
        "aio",
        "cli",
        "hosts",
        "http.aiohttp",
        "http.connection",
        "http.cycle",
        "http.h11_connection",
        "http.httpcore_wire",
        "http.pool",
        "http.served",
        "http.server",
        "http.uvicorn",
        "proxy",
        "sspi.streams",
        "sspi.bridges",
        "stores",
        "winrm",
        "testing",
    ),
    "cryptography": (
        "wire",
        "mechanisms",
        "core",
        "tls_config",
        "certificates",
        "diagnosis",
        "trust",
        "sspi.schannel",
        "sspi.certificates",
        "proxy",
        "rdp_file",
        "stores.sealing",
        "cli",
    ),
    "aiohttp": ("http.aiohttp", "proxy"),
    "h11": ("http.h11_connection", "http.h11_parser", "http.uvicorn", "cli.web_logon"),
    "httpcore": ("http.httpx",),
    "httpcore2": ("http.httpx2",),
    "httpx": ("http.httpx", "winrm.httpx"),
    "httpx2": ("http.httpx2",),
    "multidict": ("http.aiohttp",),
    "yarl": ("http.aiohttp",),
    "prometheus_client": ("proxy",),
    "pytest": ("testing",),
    "psrpcore": ("winrm.powershell",),
    "pydantic": ("proxy",),
    "redis": ("stores.redis",),
    "rich": ("cli",),
    "textual": ("cli.top",),
    "gssapi": ("mechanisms.kerberos",),
    "krb5": ("mechanisms.kerberos",),
    "spnego": ("mechanisms.kerberos",),
    "ssl": (
        "policy",
        "core.tls",
        "core.client_certificate",
        "core.events",
        "core.server_name",
        "core.own_certificate",
        "tls_config",
        "sni",
        "trust",
        "config",
        "http.aiohttp",
        "http.failures",  # the names of OpenSSL's errors
        "http.httpcore_wire",
        "http.httpx_shape",
        "http.wire",
        "http.server",
        "sspi",
        "proxy",
        "cli.arguments",
        "cli.certificate",
        "cli.doctor",
        "cli.examination",
        "cli.keylog",
        "cli.rdp_logon",
        "cli.web_logon",
        "testing",
        "cli.probe",
        "cli.probing",
        "winrm.httpx",
    ),
    "typer": ("cli",),
    "uvicorn": ("http.uvicorn",),
    "uvloop": ("cli",),
}
"""Which modules may import what is not the standard library's, or is no matter of everybody's."""

IMPURE = {
    "concurrent", "datetime", "fcntl", "multiprocessing", "os", "pathlib", "queue", "random", "select", "selectors",
    "signal", "socket", "socketserver", "subprocess", "sys", "tempfile", "threading", "time",
}  # fmt: skip
"""No sockets, clock, environment, files or threads below `aio`: what is needed comes in as an argument."""

IMPURE_EXCEPTIONS = {
    ("core.tls", "threading"): "a lock for the moment in which a setting of a context, which threads share, is changed",
    ("mechanisms.ntlm.messages", "time"): "the one reading of the clock, as a FILETIME; callers may pass their own",
    ("diagnosis.certificate", "datetime"): "the dates of a certificate",
    ("diagnosis.logon", "datetime"): "the moment of a logon, which callers give",
    ("diagnosis.questions", "datetime"): "the clock of a server, as it tells it",
    ("diagnosis.server", "datetime"): "the moment that is judged for, which callers give",
    ("diagnosis.web", "datetime"): "the same",
    ("certificates.path", "datetime"): "the type of the moment that a chain is judged for, which callers give",
    ("certificates.rules", "datetime"): "the same type",
    ("trust", "datetime"): "the same type",
    ("config", "datetime"): "the moment of a judgement, read here for every face of the engine",
    ("mechanisms.kerberos.memory_cache", "datetime"): "whether a ticket is still fresh, asked in a thread",
    ("tls_config", "datetime"): "the dates of a self-made certificate",
    ("tls_config", "os"): "a private key in memory enters an SSLContext through a memfd",
    ("tls_config", "pathlib"): "the same, where there is no memfd",
    ("delegation.toml", "pathlib"): "a policy's file, read when the caller names one",
    ("trust", "pathlib"): "the authorities of a file, and of the operating system",
    ("tls_config", "tempfile"): "where there is no memfd, an encrypted file under a one-time password",
}

FACES = ("cli", "http", "proxy", "winrm", "__main__")
"""Programs on top of the package: they take what any other program may take."""

BEHIND_THE_FACE = {
    "acredssp.aio.winbind.machine_identity": "the same question as `WinbindOracle.identity`, before there is a loop",
    "acredssp.arguments.expect_host_name": "a wrong option gets the words that a wrong argument gets",
    "acredssp.arguments.expect_seconds": "the same",
    "acredssp.arguments.expect_service_name": "the same",
    "acredssp.arguments.is_ip_address": "what is an address and no name is told by one rule",
    "acredssp.ctrl_c.INTERRUPTED": "the same status as where Ctrl-C comes before there is a command",
    "acredssp.ctrl_c.end_quietly": "a program that is not called acredssp may run the command",
    "acredssp.mechanisms.kerberos.tickets.keytab_realms": "the realms that `serve` takes tickets of by default",
    "acredssp.names.escape_principal": "names on the command line are read as the engine reads them",
    "acredssp.names.logon_name": "the same",
    "acredssp.names.upper": "the same",
}
"""What the faces take that is no public name."""

LAYER_OF = {name: height for height, names in enumerate(LAYERS) for name in names}
PURE_BELOW = LAYER_OF["aio"]


@functools.cache
def modules():
    """{dotted name without the leading `acredssp`: path}."""
    return {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in sorted(PACKAGE.rglob("*.py"))}


@functools.cache
def parsed(source):
    """Each module is looked at in several ways."""
    return ast.parse(source)


@functools.cache
def nodes(source):
    """The imports and attributes of a module, wherever in it."""
    looked_for = (ast.Import, ast.ImportFrom, ast.Attribute)
    return [node for node in ast.walk(parsed(source)) if isinstance(node, looked_for)]


def imported(module, source):
    """The absolute dotted names that a module imports, wherever in it."""
    package = ["acredssp", *module.split(".")][:-1]
    for node in nodes(source):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            # `from acredssp import policy` names a module, `from acredssp.policy import Policy` does not.
            yield from (f"{origin}.{alias.name}" if origin == "acredssp" else origin for alias in node.names)


def layer(module):
    """The height of a module given without the leading `acredssp`; the package's own names belong to the top one."""
    head = module.split(".")[0]
    return LAYER_OF.get("" if head == "__init__" else head)


def within(module, doors):
    return any(module == door or module.startswith(f"{door}.") for door in doors)


def violations(module, source):
    """What the imports of a module do against the map, a sentence each."""
    height = layer(module)
    if height is None:
        return [f"{module} is in no layer: place it in LAYERS"]
    found = []
    for name in sorted(set(imported(module, source))):
        top, _, rest = name.partition(".")
        if top == "acredssp":
            target = layer(rest)
            if (LAYER_OF[""] if target is None else target) > height:
                found.append(f"{module} imports {name}: upward")
        elif top in DOORS:
            if not within(module, DOORS[top]):
                found.append(f"{module} imports {name}: not its door")
        elif top not in sys.stdlib_module_names:
            found.append(f"{module} imports {name}: it has no door")
        elif top in IMPURE and height < PURE_BELOW and (module, top) not in IMPURE_EXCEPTIONS:
            found.append(f"{module} imports {name}: no I/O, clock or environment below aio")
    return found


@pytest.mark.parametrize("module", modules())
def test_imports_point_down_and_enter_by_their_doors(module):
    assert violations(module, modules()[module].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "source", "said"),
    [
        ("wire.der", "import asyncio", "not its door"),
        ("wire.der", "from acredssp.core import states", "upward"),
        ("wire.der", "from ..core import states", "upward"),
        ("wire.der", "from .. import core", "upward"),
        ("wire.der", "from acredssp import Policy", "upward"),
        ("wire.der", "def f():\n    import acredssp.aio.streams", "upward"),
        ("wire.der", "import spnego", "not its door"),
        ("wire.der", "import time", "no I/O"),
        ("core.context", "from os import environ", "no I/O"),
        ("core.context", "import datetime as dt", "clock"),
        ("core.context", "import ssl", "not its door"),
        ("core.context", "import asn1crypto.core", "not its door"),
        ("mechanisms.negotiate", "from spnego import client", "not its door"),
        ("aio.streams", "import numpy", "no door"),
        ("status", "from acredssp.errors import CredSSPError", "upward"),
        ("__init__", "from acredssp.cli import main", "upward"),
        ("extra.module", "", "no layer"),
    ],
)
def test_a_wrong_import_is_seen(module, source, said):
    (violation,) = violations(module, source)
    assert said in violation


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("wire.der", "from acredssp.errors import RemoteProtocolError\nfrom . import spnego"),
        ("core.tls", "import ssl\nfrom acredssp import policy"),
        ("aio.streams", "import asyncio, time\nfrom ..core.context import SecurityContext"),
        ("cli.demo", "import acredssp, rich"),
        ("__init__", "from acredssp.aio.streams import open_connection"),
    ],
)
def test_a_right_import_is_allowed(module, source):
    assert violations(module, source) == []


def needed(module, source, names):
    """The modules of the package, among `names`, that a module imports: inside functions and for types alone, too."""
    for node in nodes(source):
        if isinstance(node, ast.Import):
            wanted = [(alias.name,) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from acredssp.cli import serve` needs the module that it names, and not the package that holds it.
            wanted = [(f"{node.module}.{alias.name}", node.module) for alias in node.names]
        else:
            continue
        for choices in wanted:
            inside = [name.removeprefix("acredssp.") for name in choices if name.startswith("acredssp.")]
            found = [each for name in inside for each in (name, f"{name}.__init__") if each in names]
            yield from (each for each in found[:1] if each != module)


def circle(graph):
    """The modules of a circle of imports; empty where there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


@pytest.mark.thorough
def test_no_module_needs_itself_by_way_of_others():
    names = modules()
    graph = {name: set(needed(name, path.read_text(encoding="utf-8"), names)) for name, path in names.items()}
    assert circle(graph) == []
    assert "mechanisms.kerberos.library" in graph["mechanisms.kerberos.context"], "an import in a function is seen"
    assert "mechanisms.kerberos.memory_cache" in graph["mechanisms.kerberos.tickets"], "so is one for types alone"


def test_a_circle_is_seen():
    sources = {"a": "from acredssp.b import x", "b": "def f():\n    import acredssp.c", "c": "from acredssp import a"}
    found = circle({name: set(needed(name, source, sources)) for name, source in sources.items()})
    assert set(found) == {"a", "b", "c"}


def door(source):
    """The names of a module's `__all__`; None where it has none that can be read without running it."""
    for node in parsed(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            try:
                return set(ast.literal_eval(node.value))
            except ValueError:
                return None
    return None


def taken_past(source, doors):
    """What a module takes of another one that is not in that one's `__all__`; `doors` has those by dotted name."""
    aliases, past = {}, set()
    for node in nodes(source):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in doors:
                    aliases[alias.asname or alias.name] = whole
                elif (names := doors.get(node.module)) is not None and alias.name not in names | {"*"}:
                    past.add(whole)
    for node in nodes(source):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
            module = aliases[node.value.id]
            whole = f"{module}.{node.attr}"
            if (names := doors[module]) is not None and node.attr not in names and whole not in doors:
                past.add(whole)
    return past


@functools.cache
def doors_by_name():
    """What `door` says of each module, by its dotted name."""
    return {
        f"acredssp.{name}".removesuffix(".__init__"): door(path.read_text(encoding="utf-8"))
        for name, path in modules().items()
    }


@pytest.mark.parametrize("module", modules())
def test_a_module_is_entered_by_its_all(module):
    assert taken_past(modules()[module].read_text(encoding="utf-8"), doors_by_name()) == set()


@pytest.mark.parametrize(
    ("source", "past"),
    [
        ("from acredssp.a import x", set()),
        ("from acredssp.a import y", {"acredssp.a.y"}),
        ("from acredssp import a\na.x\na.y", {"acredssp.a.y"}),
        ("from acredssp.a import *", set()),
        ("from acredssp.b import anything", set()),
    ],
)
def test_a_name_that_is_taken_past_the_door_is_seen(source, past):
    assert taken_past(source, {"acredssp.a": {"x"}, "acredssp.b": None}) == past


def imported_names(source):
    """The full name of each thing that a module imports, and of what it takes of `acredssp` as an attribute."""
    for node in nodes(source):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "acredssp":
            yield f"acredssp.{node.attr}"


PUBLIC_MODULES = {f"acredssp.{name}" for name in MODULES} | {"acredssp", "acredssp.sspi"}


@functools.cache
def public_names():
    inside = {f"{module}.{name}" for module in PUBLIC_MODULES for name in doors_by_name()[module] or ()}
    return inside | PUBLIC_MODULES | {"acredssp.__version__"}


def behind_the_face(source):
    """What a program takes of the package that is no public name; `test_a_module_is_entered_by_its_all` is below it."""
    names = {name for name in imported_names(source) if name.split(".")[0] == "acredssp"}
    return {name for name in names - public_names() if not within(name.removeprefix("acredssp."), FACES)}


def test_the_programs_of_the_package_take_public_names():
    faces = [path for name, path in modules().items() if within(name, FACES)]
    taken = set().union(*(behind_the_face(path.read_text(encoding="utf-8")) for path in faces))
    assert taken == set(BEHIND_THE_FACE)


@pytest.mark.parametrize("face", ["http", "proxy", "winrm"])
def test_what_is_built_on_the_package_takes_public_names_alone(face):
    """Programs of others get no more: where a private name would be needed, the public ones are wrong."""
    sources = {name: path.read_text(encoding="utf-8") for name, path in modules().items() if within(name, (face,))}
    assert set().union(*map(behind_the_face, sources.values())) == set()
    assert {
        name for source in sources.values() for name in imported_names(source) if name.startswith("acredssp.cli")
    } == set()


@pytest.mark.parametrize(
    ("source", "taken"),
    [
        ("from acredssp import connect", {"acredssp.connect"}),
        ("from acredssp import Policy, tls\nfrom acredssp.rdp import RDP\nfrom acredssp.cli.app import main", set()),
        ("from acredssp.aio.streams import create_connection", {"acredssp.aio.streams.create_connection"}),
        ("def f():\n    import acredssp.core.context", {"acredssp.core.context"}),
        ("import acredssp\nacredssp.names\nacredssp.Policy", {"acredssp.names"}),
        ("from acredssp import names", {"acredssp.names"}),
    ],
)
def test_a_name_behind_the_face_is_seen(source, taken):
    assert behind_the_face(source) == taken
