"""Winbind's oracle against a program that stands in for ntlm_auth, and misbehaves where the user's name says so."""

import asyncio
import ctypes
import ctypes.util
import dataclasses
import logging
import os
import re
import sys

import pytest
from support import ntlm_auth
from support.endpoints import both, client_config, client_side, memory_pair, server_config, server_side
from support.logon import session_base_key
from support.ntlm import HandMade, acceptor
from support.peers import DEADLINE, wait_until

from acredssp.aio import offload
from acredssp.aio import winbind as winbind_module
from acredssp.aio.winbind import WinbindOracle
from acredssp.carriage.rdp import RDP
from acredssp.core.events import AskOracle, LookupCredential
from acredssp.credentials import Deny, Oracle, Password
from acredssp.errors import AuthenticationError
from acredssp.mechanisms.ntlm.acceptor import NTLMIdentity
from acredssp.policy import Policy
from acredssp.status import NTSTATUS

NO_LOGON_SERVERS = Deny(NTSTATUS.STATUS_NO_LOGON_SERVERS)

TROUBLES = {
    "disabled": NTSTATUS.STATUS_ACCOUNT_DISABLED,
    "expired": NTSTATUS.STATUS_ACCOUNT_EXPIRED,
    "must-change": NTSTATUS.STATUS_PASSWORD_MUST_CHANGE,
    "old-password": NTSTATUS.STATUS_PASSWORD_EXPIRED,
}


class StandIn:
    """Makes oracles over the program that stands in, and reads its log."""

    def __init__(self, folder):
        self.log = folder / "ntlm_auth.log"
        self.command = (sys.executable, "-S", "-E", ntlm_auth.__file__, str(self.log))

    def oracle(self, *arguments, **options):
        return WinbindOracle(command=(*self.command, *arguments), **{"timeout": 20.0} | options)

    def lines(self):
        return self.log.read_text(encoding="ascii").splitlines() if self.log.exists() else []

    def started(self):
        """The processes that were started, in their order."""
        return [int(line.split()[0]) for line in self.lines() if line.endswith(" started")]

    def asked(self):
        """Who was asked about, in their order."""
        return [match[1] for line in self.lines() if (match := re.search(r"asked about '(.*?)' of", line))]


@pytest.fixture
def stand_in(tmp_path):
    stand_in = StandIn(tmp_path)
    yield stand_in
    for pid in stand_in.started():
        wait_until(lambda pid=pid: not alive(pid), f"process {pid} ends")


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def aside(function):
    """The result of what may block, such as reading a file: done in a thread."""
    result = await offload.run(function)
    if isinstance(result, Exception):
        raise result
    return result


async def ended(winbind):
    """Wait for the end of its processes."""
    async with asyncio.timeout(DEADLINE):
        await asyncio.wait([helper.gone for helper in winbind._pool._helpers])


def exchange(user="alice", password="Passw0rd!", domain="CONTOSO"):
    """What a real client's logon leaves to be proven."""
    server = acceptor()
    client = HandMade(server)
    secret = Password(password, user, domain)
    event = server.step(client.authenticate(secret=secret, user=user, domain=domain))
    assert isinstance(event, LookupCredential)
    asked = server.resume(Oracle(print))
    assert isinstance(asked, AskOracle)
    return asked.exchange


def key_of(exchange, password="Passw0rd!"):
    return session_base_key(exchange, Password(password))


# --- what it answers ---


async def test_a_right_password_gives_the_session_base_key(stand_in):
    async with stand_in.oracle() as winbind:
        for asked in (exchange(), exchange("bob"), exchange("bob@contoso.test", domain="")):
            assert await winbind.verify(asked) == key_of(asked)
    assert len(await aside(stand_in.started)) == 1


@pytest.mark.requirement("winbind.own-answer")
@pytest.mark.parametrize("dots", [(), ("--one-dot",)], ids=["two-dots", "one-dot"])
async def test_refusals_and_logons_in_turn_never_mix(stand_in, dots):
    async with stand_in.oracle(*dots, processes=1) as winbind:
        for _ in range(3):
            assert await winbind.verify(exchange(password="wrong")) == Deny(NTSTATUS.STATUS_WRONG_PASSWORD)
            right = exchange()
            assert await winbind.verify(right) == key_of(right)
            assert await winbind.verify(exchange("nobody")) == Deny(NTSTATUS.STATUS_NO_SUCH_USER)
            assert await winbind.verify(exchange("disabled")) == Deny(TROUBLES["disabled"], proven=True)
    assert len(await aside(stand_in.started)) == 1


@pytest.mark.requirement("winbind.proof")
@pytest.mark.parametrize(("user", "status"), TROUBLES.items())
async def test_what_is_said_to_the_right_password_alone_counts_as_its_proof(stand_in, user, status):
    async with stand_in.oracle() as winbind:
        assert await winbind.verify(exchange(user)) == Deny(status, proven=True)
        assert await winbind.verify(exchange(user, "wrong")) == Deny(NTSTATUS.STATUS_WRONG_PASSWORD)
    async with stand_in.oracle(tell_account_status=False) as winbind:
        assert await winbind.verify(exchange(user)) == Deny(status)


@pytest.mark.requirement("winbind.proof")
@pytest.mark.parametrize(
    ("user", "status"),
    [
        ("locked", NTSTATUS.STATUS_ACCOUNT_LOCKED_OUT),
        ("restricted", NTSTATUS.STATUS_ACCOUNT_RESTRICTION),
        ("nobody", NTSTATUS.STATUS_NO_SUCH_USER),
        ("null", NTSTATUS.STATUS_LOGON_FAILURE),
        ("unheard-of", NTSTATUS.STATUS_LOGON_FAILURE),
        ("no-reason", NTSTATUS.STATUS_LOGON_FAILURE),
        ("guest", NTSTATUS.STATUS_LOGON_FAILURE),
        ("zero-key", NTSTATUS.STATUS_LOGON_FAILURE),
        ("no-controller", NTSTATUS.STATUS_NO_LOGON_SERVERS),
        ("no-winbindd", NTSTATUS.STATUS_NO_LOGON_SERVERS),
    ],
)
async def test_what_is_said_to_any_password_proves_nothing(stand_in, user, status):
    async with stand_in.oracle() as winbind:
        for password in ("Passw0rd!", "wrong")[: 1 if user == "unheard-of" else 2]:
            assert await winbind.verify(exchange(user, password)) == Deny(status)
        assert await winbind.verify(right := exchange()) == key_of(right)
    assert len(await aside(stand_in.started)) == 1


def test_samba_says_what_the_table_has():
    library = ctypes.util.find_library("samba-errors") or pytest.skip(
        "libsamba-errors is missing: apt-get install samba-libs"
    )
    sentence = ctypes.CDLL(library).get_friendly_nt_error_msg
    sentence.restype, sentence.argtypes = ctypes.c_char_p, [ctypes.c_uint32]
    about_nobody = {
        0xC000005E, 0xC0000233, 0xC00000DA, 0xC000018B, 0xC000018A, 0xC000018D, 0xC0000133, 0xC0000192, 0xC00000B5,
        0xC000023D, 0xC0000236, 0xC000020C,
    }  # fmt: skip
    table = dict(winbind_module._STATUS_OF_TEXT)
    assert table.pop("Reading winbind reply failed!") == NTSTATUS.STATUS_NO_LOGON_SERVERS  # ntlm_auth's own
    expected = {sentence(status).decode(): NTSTATUS.STATUS_NO_LOGON_SERVERS for status in about_nobody}
    for text, status in table.items():
        if status != NTSTATUS.STATUS_NO_LOGON_SERVERS:
            expected[sentence(status).decode()] = status
            assert text == sentence(status).decode()
    assert table == expected


# --- names ---


@pytest.mark.requirement("winbind.names")
@pytest.mark.parametrize(
    ("user", "domain"),
    [
        ("alice\0admin", "CONTOSO"),
        ("alice", "CONTOSO\0"),
        ("\0", ""),
        ("a" * 256, "CONTOSO"),
        ("ä" * 128, ""),
        ("a", "D" * 256),
    ],
    ids=["zero", "zero-in-domain", "only-zero", "long", "long-in-utf8", "long-domain"],
)
async def test_a_name_that_would_arrive_cut_is_not_asked_about(stand_in, user, domain):
    async with stand_in.oracle() as winbind:
        assert await winbind.verify(exchange(user, domain=domain)) == Deny()
    assert await aside(stand_in.asked) == []


@pytest.mark.requirement("winbind.names")
@pytest.mark.parametrize(
    "user",
    ["alice\n.\nUsername: bob", "a\r\nUsername: bob", "x\n.", ".", ": ", "a:: b", "älice", "алиса", "\t", "a" * 255],
)
async def test_no_name_can_say_more_than_a_name(stand_in, user):
    async with stand_in.oracle(processes=1) as winbind:
        for domain in ("CONTOSO", "C\n.\n", ""):
            asked = exchange(user, domain=domain)
            assert await winbind.verify(asked) == key_of(asked)
        assert await winbind.verify(right := exchange()) == key_of(right)
    assert len(await aside(stand_in.lines)) == 5


async def test_the_lmv2_response_is_not_handed_on(stand_in):
    async with stand_in.oracle() as winbind:
        asked = dataclasses.replace(exchange(), lm_response=b"x" * 24)
        assert await winbind.verify(asked) == key_of(asked)
    (line,) = [line for line in await aside(stand_in.lines) if "asked" in line]
    fields = ["LANMAN-Challenge", "NT-Domain", "NT-Response", "Request-User-Session-Key", "Username"]
    assert line.endswith(str(fields))


async def test_a_large_response_passes(stand_in):
    async with stand_in.oracle() as winbind:
        asked = exchange()
        large = dataclasses.replace(asked, nt_response=asked.nt_response + bytes(60_000))
        assert await winbind.verify(large) == Deny(NTSTATUS.STATUS_WRONG_PASSWORD)
        assert await winbind.verify(asked) == key_of(asked)


# --- processes that fail ---


@pytest.mark.requirement("winbind.unavailable")
@pytest.mark.parametrize(
    "user",
    [
        "dies", "dies-halfway", "short-key", "no-hex", "maybe", "error", "nothing", "dots", "twice", "no-colon",
        "many-fields", "endless-line", "binary",
    ],
)  # fmt: skip
async def test_a_process_that_dies_or_talks_nonsense_is_replaced(stand_in, user, caplog):
    async with stand_in.oracle(processes=1) as winbind:
        assert await winbind.verify(right := exchange()) == key_of(right)
        assert await winbind.verify(exchange(user)) == NO_LOGON_SERVERS
        assert await winbind.verify(right := exchange()) == key_of(right)
    assert len(await aside(stand_in.started)) == 2
    (record,) = [
        record for record in caplog.records if (record.name, record.levelname) == ("acredssp.winbind", "WARNING")
    ]
    assert f"'CONTOSO\\\\{user}'" in record.getMessage()


@pytest.mark.requirement("winbind.unavailable")
async def test_a_process_that_does_not_answer_is_replaced(stand_in):
    async with stand_in.oracle(processes=1, timeout=0.2) as winbind:
        assert await winbind.verify(exchange("hangs")) == NO_LOGON_SERVERS
    async with stand_in.oracle(processes=1) as winbind:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await winbind.verify(exchange("hangs"))
        assert await winbind.verify(right := exchange()) == key_of(right)


async def test_an_answer_in_pieces_is_an_answer(stand_in):
    async with stand_in.oracle() as winbind:
        for password in ("Passw0rd!", "wrong", "Passw0rd!"):
            asked = exchange("bit-by-bit", password)
            right = password == "Passw0rd!"
            assert await winbind.verify(asked) == (key_of(asked) if right else Deny(NTSTATUS.STATUS_WRONG_PASSWORD))
    assert len(await aside(stand_in.started)) == 1


async def test_a_process_that_ended_between_two_questions_is_replaced_unseen(stand_in):
    async with stand_in.oracle(processes=1) as winbind:
        assert await winbind.verify(left := exchange("leaves")) == key_of(left)
        await ended(winbind)
        assert await winbind.verify(right := exchange()) == key_of(right)
    assert len(await aside(stand_in.started)) == 2


@pytest.mark.requirement("winbind.own-answer")
async def test_what_a_process_says_unasked_is_no_answer(stand_in):
    async with stand_in.oracle(processes=1) as winbind:
        await winbind.verify(exchange("more-lines"))
        await ended(winbind)
        assert await winbind.verify(exchange(password="wrong")) == Deny(NTSTATUS.STATUS_WRONG_PASSWORD)
    assert len(await aside(stand_in.started)) == 2


@pytest.mark.requirement("winbind.own-answer")
async def test_a_logon_that_is_cancelled_leaves_no_answer_behind(stand_in):
    async with stand_in.oracle(processes=1) as winbind:
        asking = asyncio.create_task(winbind.verify(exchange("hangs")))
        await aside(lambda: wait_until(lambda: stand_in.asked() == ["hangs"], "the question arrives"))
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert await winbind.verify(exchange(password="wrong")) == Deny(NTSTATUS.STATUS_WRONG_PASSWORD)
        assert await winbind.verify(right := exchange()) == key_of(right)
    assert len(await aside(stand_in.started)) == 2


@pytest.mark.requirement("winbind.own-answer")
@pytest.mark.parametrize("turns", range(8))
async def test_a_logon_may_be_cancelled_at_any_moment(stand_in, turns):
    async with stand_in.oracle(processes=1) as winbind:
        asking = asyncio.create_task(winbind.verify(exchange()))
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        assert await winbind.verify(exchange(password="wrong")) == Deny(NTSTATUS.STATUS_WRONG_PASSWORD)
        assert await winbind.verify(right := exchange()) == key_of(right)


@pytest.mark.parametrize("turns", range(4))
async def test_the_start_of_a_process_may_be_cancelled(stand_in, turns):
    winbind = stand_in.oracle(processes=1)
    asking = asyncio.create_task(winbind.verify(exchange()))
    for _ in range(turns):
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    assert await winbind.verify(right := exchange()) == key_of(right)
    await winbind.aclose()


# --- many at once ---


@pytest.mark.requirement("winbind.own-answer")
async def test_logons_share_a_few_processes(stand_in):
    async with stand_in.oracle(processes=3) as winbind:
        asked = [exchange(f"user{number}", "Passw0rd!" if number % 3 else "wrong") for number in range(30)]
        answers = await asyncio.gather(*map(winbind.verify, asked))
    for number, answer in enumerate(answers):
        assert answer == (key_of(asked[number]) if number % 3 else Deny(NTSTATUS.STATUS_WRONG_PASSWORD))
    assert len(await aside(stand_in.started)) == 3


@pytest.mark.requirement("winbind.unavailable")
async def test_who_comes_when_too_many_wait_is_refused_at_once(stand_in, caplog):
    async with stand_in.oracle(processes=1, waiting=2) as winbind:
        waiting = [asyncio.create_task(winbind.verify(exchange("hangs"))) for _ in range(3)]
        await asyncio.sleep(0)
        assert await winbind.verify(exchange()) == NO_LOGON_SERVERS
        assert "too many logons wait already" in caplog.text
        waiting.pop().cancel()
        await asyncio.sleep(0)
        late = asyncio.create_task(winbind.verify(exchange()))
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert isinstance(await late, bytes)


async def test_waiting_for_a_process_counts_for_the_time_out(stand_in):
    async with stand_in.oracle(processes=1, timeout=0.2) as winbind:
        answers = await asyncio.gather(*(winbind.verify(exchange("hangs")) for _ in range(3)))
    assert answers == [NO_LOGON_SERVERS] * 3
    assert len(await aside(stand_in.asked)) <= 1  # none, where the process takes as long to start


# --- its life ---


async def test_closing_refuses_who_still_waits_and_ends_every_process(stand_in):
    async with stand_in.oracle(processes=2) as winbind:
        asking = [asyncio.create_task(winbind.verify(exchange("hangs"))) for _ in range(4)]
        await aside(lambda: wait_until(lambda: stand_in.asked() == ["hangs"] * 2, "the questions arrive"))
    assert not any(map(alive, await aside(stand_in.started)))
    assert await asyncio.gather(*asking) == [NO_LOGON_SERVERS] * 4
    assert await winbind.verify(exchange()) == NO_LOGON_SERVERS
    await winbind.aclose()
    assert len(await aside(stand_in.started)) == 2


@pytest.mark.parametrize("turns", range(4))
async def test_closing_while_a_process_starts_ends_it(stand_in, turns):
    winbind = stand_in.oracle()
    asking = asyncio.create_task(winbind.verify(exchange()))
    for _ in range(turns):
        await asyncio.sleep(0)
    await winbind.aclose()
    assert await asking == NO_LOGON_SERVERS


async def test_it_needs_no_context_to_be_asked(stand_in):
    winbind = stand_in.oracle()
    assert await winbind.verify(right := exchange()) == key_of(right)
    await winbind.aclose()


async def test_a_wrapper_around_the_program_ends_with_it(stand_in):
    shell = ("sh", "-c", '"$@"; exit', "wrapper", *stand_in.command)
    async with WinbindOracle(command=shell, processes=1, timeout=20.0) as winbind:
        asking = asyncio.create_task(winbind.verify(exchange("hangs")))
        await aside(lambda: wait_until(stand_in.asked, "the question arrives"))
    assert await asking == NO_LOGON_SERVERS


async def test_a_program_that_is_missing_is_told_at_the_start_and_is_no_logon_server_later(tmp_path):
    winbind = WinbindOracle(command=(str(tmp_path / "ntlm_auth"),))
    with pytest.raises(FileNotFoundError):
        await winbind.__aenter__()
    assert await winbind.verify(exchange()) == NO_LOGON_SERVERS
    with pytest.raises(FileNotFoundError):
        await winbind.identity()
    await winbind.aclose()


@pytest.mark.requirement("winbind.identity")
async def test_it_tells_the_names_of_the_machine(stand_in):
    async with stand_in.oracle() as winbind:
        assert await winbind.identity() == NTLMIdentity("SRV", "CONTOSO", "srv.contoso.test", "contoso.test")


async def test_a_program_that_tells_no_names_in_time_is_not_waited_for():
    winbind = WinbindOracle(command=("sh", "-c", "exec sleep 600"), timeout=0.2)
    with pytest.raises(OSError):  # noqa: PT011 - a time-out, or the word that there is no answer, whichever is first
        await winbind.identity()


@pytest.mark.parametrize("program", ["true", "false", "cat"])
async def test_a_program_that_is_another_one_tells_no_names_and_lets_nobody_in(program):
    async with WinbindOracle(command=(program,), timeout=30.0) as winbind:
        with pytest.raises(OSError, match=f"^{program} does not tell"):
            await winbind.identity()
        assert await winbind.verify(exchange()) == NO_LOGON_SERVERS


@pytest.mark.parametrize("options", [{"command": ()}, {"processes": 0}, {"waiting": -1}, {"timeout": 0}], ids=str)
def test_an_oracle_that_could_answer_nobody_is_not_made(options):
    with pytest.raises(ValueError, match="expected"):
        WinbindOracle(**options)


# --- within a server ---


async def handshake(lookup, user, password, policy=None):
    client, server = memory_pair()
    config = client_config(policy, authenticate=Password(password, user, "CONTOSO"))
    carriage = RDP()
    return await both(
        client_side(client, config, carriage), server_side(server, server_config(policy, lookup=lookup), carriage)
    )


@pytest.mark.parametrize("inside", [False, True], ids=["as-lookup", "from-lookup"])
async def test_a_server_lets_in_whom_winbind_knows(stand_in, inside):
    async with stand_in.oracle() as winbind:
        ours, theirs = await handshake((lambda _request: winbind) if inside else winbind, "alice", "Passw0rd!")
    assert ours.version == theirs.version == 6
    assert str(theirs.principal) == "CONTOSO\\alice"


@pytest.mark.requirement("winbind.proof")
@pytest.mark.parametrize(("user", "status"), TROUBLES.items())
async def test_the_client_sees_the_status_of_its_account_only_with_the_right_password(stand_in, user, status):
    async with stand_in.oracle() as winbind:
        for password, seen in (("Passw0rd!", status), ("wrong", NTSTATUS.STATUS_LOGON_FAILURE)):
            for error in await handshake(winbind, user, password):
                assert isinstance(error, AuthenticationError)
                assert error.nt_status == seen


@pytest.mark.requirement("ntlm.uniform-failure")
async def test_a_wrong_password_an_unknown_user_and_a_locked_account_look_alike(stand_in, caplog):
    caplog.set_level(logging.INFO, "acredssp")
    seen = set()
    async with stand_in.oracle() as winbind:
        for user, password in (("alice", "wrong"), ("nobody", "x"), ("locked", "wrong"), ("locked", "Passw0rd!")):
            ours, theirs = await handshake(winbind, user, password)
            seen.add((ours.nt_status, theirs.nt_status, str(ours), str(theirs), theirs.stage))
    assert [told[0] for told in seen] == [NTSTATUS.STATUS_LOGON_FAILURE]
    log = [record.getMessage() for record in caplog.records if record.name == "acredssp.winbind"]
    assert [line.rpartition(": ")[2] for line in log] == [
        "STATUS_WRONG_PASSWORD", "STATUS_NO_SUCH_USER", "STATUS_ACCOUNT_LOCKED_OUT", "STATUS_ACCOUNT_LOCKED_OUT",
    ]  # fmt: skip


@pytest.mark.requirement("winbind.unavailable")
async def test_a_client_is_told_that_nobody_validates(stand_in):
    async with stand_in.oracle() as winbind:
        for error in await handshake(winbind, "dies", "Passw0rd!"):
            assert error.nt_status == NTSTATUS.STATUS_NO_LOGON_SERVERS


async def test_a_hook_that_is_out_of_time_leaves_winbind_usable(stand_in):
    async with stand_in.oracle(processes=1) as winbind:
        ours, _ = await handshake(winbind, "hangs", "Passw0rd!", Policy(hook_timeout=0.2))
        assert ours.nt_status == NTSTATUS.STATUS_LOGON_FAILURE
        _, theirs = await handshake(winbind, "alice", "Passw0rd!")
        assert theirs.version == 6


async def test_nothing_secret_is_logged_or_shown(stand_in, caplog):
    caplog.set_level(logging.DEBUG)
    async with stand_in.oracle() as winbind:
        for user in ("alice", "dies", "nobody", "a\nb", "x\0"):
            asked = exchange(user)
            answer = await winbind.verify(asked)
            secrets = {asked.nt_response.hex(), asked.nt_response[:16].hex(), asked.server_challenge.hex()}
            secrets |= {answer.hex()} if isinstance(answer, bytes) else set()
            for text in (caplog.text, repr(winbind), repr(winbind._pool), repr(asked)):
                assert not any(secret in text.lower() for secret in secrets - {asked.server_challenge.hex()})
    assert not any("\n" in record.getMessage() for record in caplog.records if record.name == "acredssp.winbind")
