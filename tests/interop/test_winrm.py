"""The WinRM clients of the field run commands at the toy service over CredSSP: it answers as Windows does for them."""

import importlib.util
import json
import sys

import pytest
from support import warm
from support.command import COMMAND
from support.engine import pem
from support.kdc import PASSWORD, REALM
from support.peers import DEADLINE
from support.turns import server_config
from support.wsman_http import accepting
from support.wsman_toy import Toy, greet, upper

import acredssp
from acredssp.policy import Policy

HEAD = """
import json, warnings
warnings.simplefilter("ignore")
PORT, URL = {port}, "http://localhost:{port}/wsman"
"""
# Each program prints a JSON object. In a process of its own: the clients leave sockets to the collector.
PYPSRP = """
from pypsrp.wsman import WSMan
from pypsrp.shell import WinRS, Process, SignalCode
from pypsrp.exceptions import WSManFaultError
wsman = WSMan(
    "localhost", port=PORT, username="CONTOSO\\\\alice", password="Passw0rd!", ssl=False, auth="credssp", no_proxy=True,
    credssp_auth_mechanism="ntlm", operation_timeout=1,
)
with wsman, WinRS(wsman, codepage=65001, no_profile=True, environment={"A": "b"}) as shell:
    greet = Process(shell, "greet", ["you"])
    greet.invoke()
    greet.signal(SignalCode.TERMINATE)
    upper = Process(shell, "upper")
    upper.begin_invoke()
    upper.send(b"abc ", end=False)
    upper.send("\N{EURO SIGN}".encode(), end=True)
    upper.end_invoke()
    upper.signal(SignalCode.TERMINATE)
    waits = Process(shell, "wait")
    waits.begin_invoke()
    waits.poll_invoke()
    waits.poll_invoke()  # nothing comes within the operation time-out
    waits.signal(SignalCode.CTRL_C)
    waits.end_invoke()
    waits.signal(SignalCode.TERMINATE)
    large = Process(shell, "large")
    large.invoke()
    try:
        waits.poll_invoke()
    except WSManFaultError as error:
        gone = error.code
    state = shell._get_shell()["State"]
done = [(each.rc, each.stdout.decode(), each.stderr.decode()) for each in (greet, upper, waits)]
print(json.dumps({"done": done, "large": len(large.stdout), "gone": gone, "state": state}))
"""
PYPSRP_POWERSHELL = """
from pypsrp.wsman import WSMan
from pypsrp.powershell import PowerShell, RunspacePool
wsman = WSMan(
    "localhost", port=PORT, username="CONTOSO\\\\alice", password="Passw0rd!", ssl=False, auth="credssp", no_proxy=True,
    credssp_auth_mechanism="ntlm", operation_timeout=20,
)
with wsman, RunspacePool(wsman) as pool:
    shell = PowerShell(pool)
    shell.add_script("greet").add_cmdlet("Out-String").add_parameter("Stream")
    output = shell.invoke()
    shell.close()
    lines = PowerShell(pool)
    lines.add_script("upper")
    upper = lines.invoke(each for each in ["a", "b"])
    lines.close()
print(json.dumps({
    "output": output, "upper": upper, "errors": [str(each) for each in shell.streams.error],
    "warnings": [each.message for each in shell.streams.warning],
}))
"""
PYWINRM = """
from winrm.protocol import Protocol
from winrm.exceptions import WSManFaultError
client = Protocol(
    URL, transport="credssp", username="CONTOSO\\\\alice", password="Passw0rd!", proxy=None, operation_timeout_sec=1,
)
shell = client.open_shell(codepage=65001, env_vars={"A": "b"})
done = []
for line, arguments in ("greet", ["you"]), ("upper", []), ("wait", []), ("large", []):
    command = client.run_command(shell, line, arguments)
    if line == "upper":
        client.send_command_input(shell, command, b"abc ")
        client.send_command_input(shell, command, "\N{EURO SIGN}".encode(), end=True)
    if line == "wait":
        try:
            client.get_command_output_raw(shell, command)
            client.get_command_output_raw(shell, command)
        except Exception as error:
            assert type(error).__name__ == "WinRMOperationTimeoutError"
        client.cleanup_command(shell, command)
        continue
    out, err, code = client.get_command_output(shell, command)
    done.append((code, len(out) if line == "large" else out.decode(), err.decode()))
    client.cleanup_command(shell, command)
try:
    client.get_command_output_raw(shell, command)
except WSManFaultError as error:
    gone = error.wsman_fault_code
client.close_shell(shell)
print(json.dumps({"done": done, "gone": gone}))
"""


async def wait(process):
    process.write("stdout", b"begun")
    await process.interrupted.wait()
    return 1


async def large(process):
    process.write("stdout", b"x" * 1_000_000)
    return 0


PROGRAMS = {"greet": greet, "upper": upper, "wait": wait, "large": large}


@pytest.fixture(autouse=True)
def no_realm(request, monkeypatch):
    if "kerberos" not in request.fixturenames:
        monkeypatch.setenv("KRB5_CONFIG", "/dev/null")


def word_of(package, program, toy):
    """What their client says at its end."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    with accepting(toy) as port:
        head = HEAD.format(port=port)
        run = warm.run([sys.executable, "-c", f"{head}\n{program}"], capture_output=True, timeout=DEADLINE, check=False)
    assert run.returncode == 0, run.stderr.decode()
    assert toy.principals == {"CONTOSO\\alice"}
    return json.loads(run.stdout)


def test_pypsrp_runs_commands_at_the_toy():
    toy = Toy(PROGRAMS)
    word = word_of("pypsrp", PYPSRP, toy)
    assert word == {
        "done": [[3, "hello\r\n", "oh\r\n"], [0, "ABC €", ""], [1, "begun", ""]],
        "large": 1_000_000,
        "gone": 2150858843,
        "state": "Connected",
    }
    assert toy.started == ["greet you", "upper", "wait", "large"]
    assert toy.shells == {}


def test_pywinrm_runs_commands_at_the_toy():
    toy = Toy(PROGRAMS)
    word = word_of("winrm", PYWINRM, toy)
    assert word == {"done": [[3, "hello\r\n", "oh\r\n"], [0, "ABC €", ""], [0, 1_000_000, ""]], "gone": 2150858843}
    assert toy.started == ["greet you", "upper", "wait", "large"]
    assert toy.shells == {}


async def greet_in_powershell(script):
    script.write_output("hello")
    script.error("boom")
    script.write_warning("careful")


async def upper_in_powershell(script):
    for line in await script.input():
        script.write_output(line.upper())


def test_pypsrp_runs_powershell_at_the_toy():
    powershell = pytest.importorskip("support.wsman_powershell")
    toy = powershell.PowerShellToy({"greet": greet_in_powershell, "upper": upper_in_powershell})
    word = word_of("pypsrp", PYPSRP_POWERSHELL, toy)
    assert word == {
        "output": ["hello"],
        "upper": ["A", "B"],
        "errors": ["boom"],
        "warnings": ["careful"],
    }
    assert toy.started == ["greet", "upper"]
    assert toy.shells == {}


SECRETS = {
    "a password": lambda kerberos: ["-u", f"alice@{REALM}", "--password-stdin"],
    "tickets": lambda kerberos: ["--ccache", kerberos.log_on("alice")],
    "a keytab": lambda kerberos: ["--keytab", str(kerberos.keytab), "-u", f"HTTP/localhost@{REALM}"],
}


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("spn", [[], ["--spn", "WSMAN/localhost"]])
def test_acredssp_winrm_runs_a_command_by_kerberos(kerberos, tmp_path, spn, secret):
    authority = tmp_path / "authority.pem"
    authority.write_bytes(pem()[0])
    tls = server_config(Policy()).ssl_context
    config = acredssp.ServerConfig(ssl_context=tls, keytab=acredssp.Keytab(str(kerberos.keytab)))
    toy = Toy(PROGRAMS)
    with accepting(toy, config) as port:
        options = [*SECRETS[secret](kerberos), "--mechanism", "kerberos", "--ca", str(authority), *spn]
        words = ["winrm", f"http://localhost:{port}/wsman", *options, "greet", "you"]
        run = warm.run([COMMAND, *words], input=PASSWORD.encode(), capture_output=True, timeout=DEADLINE, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (3, b"hello\r\n", b"oh\r\n")
    assert toy.started == ["greet you"]
    (principal,) = toy.principals
    user = "HTTP/localhost" if secret == "a keytab" else "alice"
    assert principal.lower() in {f"{user}@{REALM}".lower(), f"{REALM}\\{user}".lower()}
