"""`acredssp doctor`: one logon that explains itself, by RDP or over HTTP.

The quiet questions of `acredssp probe` come first, then one logon, whose every step is noted with its size and time.
Then the causes of a failure are named. A second logon is made only after a question on the terminal: each wrong
password brings an account nearer to its lockout.
"""

import contextlib
import dataclasses
import itertools
import json
import pathlib
import ssl
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Annotated, Any, Final, TypeAlias

import typer
from rich.console import Console
from rich.text import Text

from acredssp.arguments import expect_host_name, expect_service_name
from acredssp.carriage import Carriage
from acredssp.cli import arguments, render
from acredssp.cli.arguments import Secret, Service
from acredssp.cli.examination import Course, Examination, show, write
from acredssp.cli.login import Login, client_carriage
from acredssp.cli.options import (
    RDP_PORT,
    AsJSON,
    Authorities,
    CarriageChoice,
    Domain,
    Insecure,
    KeytabFile,
    LegacyCiphers,
    LegacyTLS,
    LoadBalanceInfo,
    MaxVersion,
    MinTLS,
    MinVersion,
    NTHashWord,
    PasswordStdin,
    PasswordWord,
    Pin,
    PolicyFile,
    PreconnectionBlob,
    PreconnectionId,
    PrincipalName,
    ServerName,
    Tickets,
    User,
    WeakCertificates,
    WithCarriage,
    WithMechanism,
    allowed,
    client_config,
    read_policy,
    read_trust,
    until_done,
    usage_errors,
    warn_of,
)
from acredssp.cli.outcome import EXIT_STATUS, UsageError, expect_new, result_of
from acredssp.cli.probing import Pace, Prober
from acredssp.cli.rdp_logon import Patient, examine
from acredssp.cli.services import extra_of_services, name_of_service, to_this_service
from acredssp.config import ClientConfig
from acredssp.credentials import Credential, Nothing, Password
from acredssp.policy import FIRST_SAFE_VERSION, NEWEST_VERSION, MechanismChoice
from acredssp.workers import Address

__all__ = ["doctor_command"]

_RATE: Final = 100.0
"""Connections a second of the quiet questions."""


# --- the command ---


def doctor_command(  # noqa: PLR0913, PLR0917 - the options of a command line
    host: Annotated[
        str,
        typer.Argument(
            metavar="HOST[:PORT]|URL",
            help="The server, whose port is 3389 unless given; or a service of WinRM: http://HOST or https://HOST.",
        ),
    ],
    user: User = None,
    domain: Domain = None,
    password: PasswordWord = None,
    password_stdin: PasswordStdin = False,
    nt_hash: NTHashWord = None,
    ccache: Tickets = None,
    keytab: KeytabFile = None,
    restricted_admin: Annotated[
        bool, typer.Option("--restricted-admin", help="Delegate no credentials, as a hash and a ticket do anyway.")
    ] = False,
    mechanism: WithMechanism = MechanismChoice.AUTO,
    min_version: MinVersion = FIRST_SAFE_VERSION,
    max_version: MaxVersion = NEWEST_VERSION,
    min_tls: MinTLS = arguments.TLSVersion.TLS_1_2,
    dangerous_allow_legacy_tls: LegacyTLS = False,
    dangerous_allow_legacy_ciphers: LegacyCiphers = False,
    insecure: Insecure = False,
    ca: Authorities = None,
    pin: Pin = None,
    dangerous_allow_weak_certificates: WeakCertificates = False,
    server_name: ServerName = None,
    spn: PrincipalName = None,
    load_balance_info: LoadBalanceInfo = None,
    pcb: PreconnectionBlob = None,
    pcid: PreconnectionId = None,
    carriage: WithCarriage = CarriageChoice.RDP,
    policy_file: PolicyFile = None,
    report_file: Annotated[
        pathlib.Path | None,
        typer.Option(
            "--report", metavar="FILE", help="Write all of it to a new file for the support. It holds no secret."
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="Seconds for all of it; the quiet questions take at most half of them."),
    ] = 30.0,
    as_json: AsJSON = False,
) -> None:
    """Log on once, and explain what came: each stage with sizes and times, and the causes of a failure.

    The server is asked quietly first, as acredssp probe does. Exactly one logon is made. Before a second one, by NTLM
    where Kerberos failed, the doctor asks. The exit status is that of acredssp login,
    and 130 after Ctrl-C, which prints what is known by then.
    """
    out, err = render.consoles()
    with usage_errors():
        where = _where(host)
        name = _name(where, server_name, spn)
        trust = read_trust(insecure, ca, pin, allow_weak=dangerous_allow_weak_certificates)
        delegation = read_policy(policy_file)
        if isinstance(where, Service) and policy_file is None:
            delegation = to_this_service(spn or f"HTTP/{name}")
        credential = Secret(password, password_stdin, nt_hash, ccache, keytab).credential(user, domain)
        policy = arguments.policy_of(
            min_version,
            max_version,
            min_tls,
            legacy_tls=dangerous_allow_legacy_tls,
            legacy_ciphers=dangerous_allow_legacy_ciphers,
            dangerous_accept_any_certificate=insecure,
            mechanism=mechanism,
        )
        config = client_config(
            authenticate=credential,
            delegate=Nothing() if restricted_admin else None,
            delegation=delegation,
            policy=allowed(delegation.for_client, policy),
            trust=trust,
        )
        seconds = arguments.seconds("--timeout", timeout)
        # A pin is of the certificate inside CredSSP, and HTTPS has another check.
        outer = read_trust(insecure, ca, None, allow_weak=False) if isinstance(where, Service) else trust
        carried = client_carriage(carriage, credential, load_balance_info, pcb, pcid)
        prober = Prober(
            pace=Pace(_RATE),
            timeout=min(5.0, seconds / 2),
            total=seconds / 2,
            trust=outer,
            server_name=server_name,
            carriage=carried,
        )
        if isinstance(where, Service):
            _expect_no_carriage(carriage, load_balance_info, pcb, pcid)
            https = arguments.https_context(insecure=insecure, authorities=ca) if where.secure else None
            examining = _of_service(where, name, spn, https, seconds, prober)
        else:
            examining = _of_server(where, name, spn, carried, seconds, prober)
        if report_file is not None:
            expect_new("--report", report_file)  # before the logon, which may count as a failed one
    warn_of(err, policy, None, trust)
    with _progress(err) as course:
        examination = until_done(examining(config, course))
    _tell(out, err, examination, report_file, as_json=as_json)
    if not as_json and _asks_for_ntlm(examination, credential):
        again = dataclasses.replace(config.policy, mechanism=MechanismChoice.NTLM)
        with _progress(err) as course:
            examination = until_done(examining(dataclasses.replace(config, policy=again), course))
        _tell(out, err, examination, report_file and _beside(report_file), as_json=False)
    raise typer.Exit(EXIT_STATUS[result_of(examination.error)])


def _where(text: str) -> Address | Service:
    """Read the argument: a server of RDP, or the URL of a service."""
    return arguments.service(text) if "://" in text else arguments.address(text, default_port=RDP_PORT)


def _expect_no_carriage(carriage: CarriageChoice, *given: object) -> None:
    """Check that nothing was said of what a service over HTTP has not."""
    if carriage is not CarriageChoice.RDP or any(each is not None for each in given):
        raise UsageError(
            "expected HOST with --carriage, --load-balance-info, --pcb and --pcid, got the URL of a service, "
            "which is reached without them"
        )


def _name(where: Address | Service, server_name: str | None, spn: str | None) -> str:
    """Return the name that the server must have in its certificate."""
    if isinstance(where, Service):
        return name_of_service(where, server_name, spn)
    with arguments.values():
        expect_host_name("--server-name" if server_name else "HOST", server_name or where.host)
        if spn is not None:
            expect_service_name("--spn", spn)
    return server_name or where.host


_Examining: TypeAlias = Callable[[ClientConfig, Course], Coroutine[Any, Any, Examination]]
"""Makes one logon by a configuration, and explains it."""


def _of_server(  # noqa: PLR0913, PLR0917
    where: Address, name: str, spn: str | None, carriage: Carriage, seconds: float, prober: Prober
) -> _Examining:
    def examining(config: ClientConfig, course: Course) -> Coroutine[Any, Any, Examination]:
        login = Login(
            address=where,
            config=config,
            carriage=carriage,
            server_hostname=name,
            spn=spn,
            timeout=seconds,
        )
        return examine(Patient.of(login), prober, course)

    return examining


def _of_service(  # noqa: PLR0913, PLR0917
    where: Service, name: str, spn: str | None, https: ssl.SSLContext | None, seconds: float, prober: Prober
) -> _Examining:
    with extra_of_services():
        from acredssp.cli.web_logon import WebPatient, examine_service  # noqa: PLC0415 - needs the extra

    def examining(config: ClientConfig, course: Course) -> Coroutine[Any, Any, Examination]:
        patient = WebPatient(service=where, config=config, name=name, spn=spn, https=https, timeout=seconds)
        return examine_service(patient, prober, course)

    return examining


def _beside(path: pathlib.Path) -> pathlib.Path:
    """Return the name for one more report, which no file has: `report-2.json` beside `report.json`."""
    names = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in itertools.count(2))
    return next(each for each in names if not each.exists())


@contextlib.contextmanager
def _progress(err: Console) -> Iterator[Course]:
    """Say on a terminal what the doctor does, in a line that is gone at the end."""
    if not err.is_terminal:
        yield Course()
        return
    with err.status("") as line:
        yield Course(lambda doing: line.update(Text(f"{render.printable(doing)} (Ctrl-C ends it)")))


def _tell(out: Console, err: Console, examination: Examination, path: pathlib.Path | None, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(examination.as_dict()))  # noqa: T201
    else:
        show(out, examination)
    if path is not None:
        sys.stdout.flush()  # so that the diagnosis is told even if the report cannot be kept
        write(path, examination)
        if not as_json:
            render.note(err, f"the report is in {path}")


def _asks_for_ntlm(examination: Examination, credential: Credential) -> bool:
    """Ask whether to log on once more by NTLM alone, where that may tell more; return the answer."""
    error = examination.error
    if error is None or not error.message.startswith("kerberos:") or not isinstance(credential, Password):
        return False
    if sys.stdin is None or not sys.stdin.isatty():
        return False
    return typer.confirm("\nKerberos failed. Log on once more, by NTLM alone?")
