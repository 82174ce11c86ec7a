"""Commands of cmd.exe against a service that answers as Windows does."""

import asyncio
import contextlib
import re

import pytest
from support.wsman_toy import DISCONNECTED, UNEXPECTED_SELECTORS, Fault, Toy, greet, upper

from acredssp.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from acredssp.winrm import CommandShell, NotSent, OutcomeUnknown, WSMan, WSManFault
from acredssp.winrm import shell as shell_module

URL = "http://toy:5985/wsman"


@contextlib.asynccontextmanager
async def service(programs=None, *, client=None, **options):
    """A toy, and a client of it that does not wait before it repeats a request."""
    toy = Toy(programs, **options)
    try:
        yield toy, WSMan(toy.post, URL, first_delay=0, **(client or {}))
    finally:
        await toy.aclose()


async def until_interrupted(process):
    process.write("stdout", b"begun\n")
    await process.interrupted.wait()
    process.write("stdout", b"^C")
    return 0xC000013A


async def test_a_command_runs_and_its_output_and_exit_status_come_back():
    async with service({"greet": greet}) as (toy, wsman), await CommandShell.open(wsman) as shell:
        done = await shell.run("greet", "you", "there")
        assert (done.exit_code, done.stdout, done.stderr, done.may_lack_output) == (3, "hello\r\n", "oh\r\n", False)
        (made,) = toy.shells.values()
        assert made.commands == {}, "the client lets go of a command"
        assert made.options == {"WINRS_NOPROFILE": "FALSE", "WINRS_CODEPAGE": "65001"}
    assert toy.shells == {}
    assert toy.started == ["greet you there"]
    assert toy.requests == ["Create", "Command", "Receive", "Signal", "Delete"]


@pytest.mark.parametrize(
    ("told", "exit_code"), [(0, 0), (-1, 0xFFFFFFFF), (-1073741510, 0xC000013A), (1 << 31, 1 << 31)]
)
async def test_an_exit_status_has_no_sign(told, exit_code):
    async def leave(process):
        return told

    async with service({"leave": leave}) as (_, wsman), await CommandShell.open(wsman) as shell:
        assert (await shell.run("leave")).exit_code == exit_code


async def test_a_closed_shell_starts_nothing():
    async with service({"greet": greet}) as (toy, wsman):
        async with await CommandShell.open(wsman) as shell:
            pass
        with pytest.raises(LocalProtocolError, match="the shell is closed: nothing was sent"):
            await shell.run("greet")
    assert toy.requests == ["Create", "Delete"]


@pytest.mark.parametrize("words", [(["greet", "/all"],), ("greet", 5), (b"greet",)])
async def test_words_of_a_command_that_are_no_text_are_refused_with_an_example(words):
    async with service({"greet": greet}) as (_, wsman), await CommandShell.open(wsman) as shell:
        with pytest.raises(TypeError, match=r'one by one, such as run\("ipconfig", "/all"\) or run\(\*words\), got '):
            await shell.run(*words)


async def test_a_command_of_a_closed_shell_does_nothing_more():
    async with service({"greet": greet}) as (toy, wsman):
        async with await CommandShell.open(wsman) as shell:
            command = await shell.start("greet")
        for call in command.send(b"x"), command.interrupt(), anext(aiter(command)):
            with pytest.raises(LocalProtocolError, match="the shell is closed: nothing was sent"):
                await call
        await command.aclose()
    assert toy.requests == ["Create", "Command", "Delete"]


async def test_objects_say_what_they_are_and_no_secret():
    async with service({"greet": greet}) as (_, wsman):
        assert repr(wsman) == f"<WSMan {wsman.session.url}>"
        assert repr(WSMan(None, "http://u:c4nary@host:5985/wsman")) == "<WSMan host:5985/wsman>"
        async with await CommandShell.open(wsman) as shell:
            command = await shell.start("greet c4nary")
            assert repr(command) == f"<Command {command.command_id} running>"
            async for _ in command:
                pass
            assert repr(command) == f"<Command {command.command_id} ended with 3>"
        assert repr(shell).endswith(" closed>")


async def test_a_real_command_runs():
    async with service() as (_, wsman), await CommandShell.open(wsman) as shell:
        done = await shell.run("printf 'a\\nb'; echo no >&2; exit 7")
        assert (done.exit_code, done.stdout, done.stderr) == (7, "a\nb", "no\n")


async def test_the_choices_for_a_shell_reach_the_service():
    async with service() as (toy, wsman):
        shell = await CommandShell.open(
            wsman,
            codepage=437,
            profile=False,
            environment={"NAME": "<&>\"'", "EMPTY": ""},
            working_directory="C:\\Program Files",
            idle_timeout=900,
        )
        (made,) = toy.shells.values()
        assert made.options == {"WINRS_NOPROFILE": "TRUE", "WINRS_CODEPAGE": "437"}
        assert made.environment == {"NAME": "<&>\"'", "EMPTY": ""}
        assert made.details["WorkingDirectory"] == "C:\\Program Files"
        assert made.details["IdleTimeOut"] == "PT900.000S"
        await shell.aclose()


async def test_the_choices_for_a_command_reach_the_service():
    async with service({"greet": greet}) as (toy, wsman), await CommandShell.open(wsman) as shell:
        command = await shell.start("greet", console_stdin=True, skip_cmd_shell=True)
        (process,) = next(iter(toy.shells.values())).commands.values()
        assert process.options == {"WINRS_CONSOLEMODE_STDIN": "TRUE", "WINRS_SKIP_CMD_SHELL": "TRUE"}
        await command.aclose()
        await command.aclose()
        assert toy.requests.count("Signal") == 1


async def test_output_comes_as_it_is_written():
    goes_on = asyncio.Event()

    async def slow(process):
        process.write("stdout", b"first")
        await goes_on.wait()
        process.write("stdout", b"second")
        return 0

    async with service({"slow": slow}) as (_, wsman), await CommandShell.open(wsman) as shell:
        command, texts = await shell.start("slow"), []
        async for output in command:
            texts.append(output.text)
            goes_on.set()
        assert texts == ["first", "second"]
        await command.aclose()


async def test_a_command_that_says_nothing_for_long_is_waited_for():
    quiet_ends = asyncio.Event()

    async def quiet(process):
        await quiet_ends.wait()
        return 5

    async with service({"quiet": quiet}, client={"operation_timeout": 0.01}) as (toy, wsman):
        async with await CommandShell.open(wsman) as shell:
            running = asyncio.create_task(shell.run("quiet"))
            await toy.until("Receive", 4)
            quiet_ends.set()
            assert (await running).exit_code == 5
        assert toy.started == ["quiet"]


@pytest.mark.parametrize("cut", range(1, 12))
async def test_a_character_may_be_cut_by_the_border_of_two_outputs(cut):
    written = "añ€𝄞".encode()

    async def cutting(process):
        process.write("stdout", written[:cut])
        process.write("stdout", written[cut:])
        return 0

    async with service({"cutting": cutting}) as (_, wsman), await CommandShell.open(wsman) as shell:
        assert (await shell.run("cutting")).stdout == "añ€𝄞"


async def test_a_character_that_never_ends_is_shown_as_unknown():
    async def broken(process):
        process.write("stderr", b"a\xe2\x82")
        return 0

    async with service({"broken": broken}) as (_, wsman), await CommandShell.open(wsman) as shell:
        assert (await shell.run("broken")).stderr == "a\N{REPLACEMENT CHARACTER}"


async def test_output_in_another_code_page():
    async def old(process):
        process.write("stdout", "äöü".encode("cp850"))
        return 0

    async with service({"old": old}) as (_, wsman):
        async with await CommandShell.open(wsman, codepage=850) as shell:
            assert (await shell.run("old")).stdout == "äöü"
        with pytest.raises(LookupError):
            await CommandShell.open(wsman, codepage=12)


async def test_large_output_comes_in_many_envelopes():
    text = "0123456789abcde\n" * 100_000

    async def large(process):
        process.write("stdout", text.encode())
        return 0

    async with service({"large": large}) as (toy, wsman), await CommandShell.open(wsman) as shell:
        assert (await shell.run("large")).stdout == text
        assert toy.requests.count("Receive") > 10


@pytest.mark.parametrize("size", [1, 110_000, 400_000])
async def test_input_is_sent_in_envelopes_that_fit(size):
    sizes = []

    async with service({"upper": upper}) as (toy, _):

        async def post(body):
            sizes.append(len(body))
            return await toy.post(body)

        async with await CommandShell.open(WSMan(post, URL)) as shell:
            assert (await shell.run("upper", stdin=b"x" * size)).stdout == "X" * size
        assert max(sizes) <= 153_600
        assert toy.requests.count("Send") == 1 + size // 114_000


async def test_an_interrupted_command_ends_with_its_own_status():
    async with service({"wait": until_interrupted}) as (_, wsman), await CommandShell.open(wsman) as shell:
        command, texts = await shell.start("wait"), []
        async for output in command:
            texts.append(output.text)
            if output.text == "begun\n":
                await command.interrupt()
        assert texts == ["begun\n", "^C"]
        assert command.exit_code == 0xC000013A
        await command.aclose()


async def test_a_command_that_is_let_go_of_is_ended():
    async with service({"wait": until_interrupted}) as (toy, wsman), await CommandShell.open(wsman) as shell:
        command = await shell.start("wait")
        (process,) = next(iter(toy.shells.values())).commands.values()
        await command.aclose()
        assert process.task.cancelled()


# --- lost connections ---


def twice(texts):
    return [text for text in set(texts) if texts.count(text) > 1]


@pytest.mark.parametrize("when", ["before", "while", "after"])
async def test_a_connection_lost_during_receive_loses_no_output_and_runs_no_command_twice(when):
    async with service({"greet": greet}) as (toy, wsman), await CommandShell.open(wsman) as shell:
        toy.lose("Receive", when)
        done = await shell.run("greet")
        assert (done.exit_code, done.stdout, done.stderr, done.may_lack_output) == (3, "hello\r\n", "oh\r\n", False)
        assert toy.started == ["greet"]
        assert toy.requests.count("Receive") == 2


async def test_whoever_waits_for_a_service_that_is_away_is_told_once(caplog):
    async with service({"greet": greet}) as (toy, wsman), await CommandShell.open(wsman) as shell:
        for _ in range(3):
            toy.lose("Receive", "before")
        with caplog.at_level("WARNING", "acredssp.winrm"):
            await shell.run("greet")
    assert [record.getMessage() for record in caplog.records] == [
        "the connection was lost during the request receive: trying to reach the service again for 180 seconds"
    ]


@pytest.mark.parametrize("when", ["before", "while", "after"])
async def test_output_that_got_lost_with_a_connection_is_told_of_where_the_service_cannot_repeat_it(when):
    """So it is with services before Windows Server 2012."""

    async def slow(process):
        if when == "while":
            await goes_on.wait()
        process.write("stdout", b"first")
        await goes_on.wait()
        process.write("stdout", b"second")
        return 0

    goes_on = asyncio.Event()
    async with service({"slow": slow}, stack=2) as (toy, wsman), await CommandShell.open(wsman) as shell:
        toy.lose("Receive", when)
        running = asyncio.create_task(shell.run("slow"))
        await toy.until("Receive", 2)
        goes_on.set()
        done = await running
        assert done.stdout == ("second" if when == "after" else "firstsecond")
        assert done.may_lack_output
        assert toy.started == ["slow"]


async def test_a_request_that_is_sent_again_is_the_same_operation():
    bodies = []
    async with service({"greet": greet}) as (toy, _):

        async def post(body):
            bodies.append(body.decode())
            return await toy.post(body)

        async with await CommandShell.open(WSMan(post, URL, first_delay=0)) as shell:
            toy.lose("Receive", "after")
            await shell.run("greet")
    first, second = (body for body in bodies if "shell/Receive</a:Action>" in body)
    operation = re.search('<p:OperationID s:mustUnderstand="false">uuid:([0-9A-F-]{36})<', first)[1]
    assert second == first.replace(
        f'mustUnderstand="false">uuid:{operation}', f'mustUnderstand="true">uuid:{operation}'
    )
    operations = re.findall("<p:OperationID[^>]*>([^<]*)<", "".join(bodies))
    assert len(set(operations)) == len(operations) - 1, "every other request is an operation of its own"


@pytest.mark.parametrize("when", ["while", "after"])
async def test_a_command_whose_start_was_not_confirmed_is_found_by_its_identifier(when):
    async with service({"greet": greet}) as (toy, wsman), await CommandShell.open(wsman) as shell:
        toy.lose("Command", when)
        done = await shell.run("greet")
        assert (done.exit_code, done.stdout) == (3, "hello\r\n")
        assert toy.started == ["greet"]
        assert toy.requests.count("Command") == 1


async def test_a_command_whose_start_got_lost_is_not_started_again():
    async with service({"greet": greet}) as (toy, wsman), await CommandShell.open(wsman) as shell:
        toy.lose("Command", "before")
        with pytest.raises(OutcomeUnknown, match="lost during the request command, which is not repeated"):
            await shell.run("greet")
        assert toy.started == []
        assert toy.requests.count("Command") == 1


@pytest.mark.parametrize("when", ["before", "while", "after"])
async def test_an_old_service_never_gets_a_command_twice(when):
    async with service({"greet": greet}, stack=2) as (toy, wsman), await CommandShell.open(wsman) as shell:
        toy.lose("Command", when)
        with pytest.raises(OutcomeUnknown):
            await shell.run("greet")
        assert toy.requests.count("Command") == 1


@pytest.mark.parametrize("when", ["before", "after"])
async def test_input_is_never_sent_twice(when):
    async with service({"upper": upper}) as (toy, wsman), await CommandShell.open(wsman) as shell:
        toy.lose("Send", when)
        with pytest.raises(OutcomeUnknown):
            await shell.run("upper", stdin=b"rm -r build")
        assert toy.requests.count("Send") == 1


async def test_ctrl_c_is_never_pressed_twice():
    async with service({"wait": until_interrupted}) as (toy, wsman), await CommandShell.open(wsman) as shell:
        command = await shell.start("wait")
        toy.lose("Signal", "after")
        with pytest.raises(OutcomeUnknown):
            await command.interrupt()
        assert toy.requests.count("Signal") == 1
        toy.lose("Signal", "before")
        await command.aclose()
        assert toy.requests.count("Signal") == 3, "what ends the command is sent again"


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_shell_whose_making_was_not_confirmed_is_not_left_over(when):
    async with service() as (toy, wsman):
        toy.lose("Create", when)
        with pytest.raises(OutcomeUnknown, match="request create"):
            await CommandShell.open(wsman)
        assert toy.requests == ["Create", "Delete"]
        assert toy.shells == {}


async def test_closing_does_not_wait_for_a_service_that_is_out_of_reach(monkeypatch):
    monkeypatch.setattr(shell_module, "_CLOSING", 0.01)
    async with service({"greet": greet}) as (_, wsman):
        shell = await CommandShell.open(wsman)
        command = await shell.start("greet")

        async def nobody(body):
            await asyncio.Event().wait()

        wsman._post = nobody
        await command.aclose()
        await shell.aclose()


async def test_the_client_gives_up_when_the_service_stays_away():
    async with service({"greet": greet}, client={"keep_trying": 0.0}) as (toy, wsman):
        async with await CommandShell.open(wsman) as shell:
            for _ in range(2):
                toy.lose("Receive", "before")
            with pytest.raises(ConnectionResetError):
                await shell.run("greet")
        assert toy.started == ["greet"]


@pytest.mark.parametrize("error", [ConnectionRefusedError(111, "refused"), NotSent("no connection")])
async def test_a_command_that_was_not_sent_has_a_known_outcome(error):
    async def refuse(body):
        raise error

    async with service() as (_, wsman), await CommandShell.open(wsman) as shell:
        wsman._post, post = refuse, wsman._post
        with pytest.raises(type(error)):
            await shell.start("greet")
        wsman._post = post


async def test_a_service_that_is_started_again_is_asked_again():
    """It refuses connections for a moment."""
    async with service({"greet": greet}) as (toy, wsman), await CommandShell.open(wsman) as shell:
        refused, post = [], wsman._post

        async def refuse_twice(body):
            if b"shell/Receive<" in body and len(refused) < 2:
                refused.append(body)
                raise NotSent("no connection")
            return await post(body)

        wsman._post = refuse_twice
        assert (await shell.run("greet")).exit_code == 3
        assert len(refused) == 2
        assert toy.started == ["greet"]


async def test_a_disconnected_shell_is_taken_up_again():
    async with service({"greet": greet}) as (toy, wsman), await CommandShell.open(wsman) as shell:
        command = await shell.start("greet")
        (made,) = toy.shells.values()
        made.connected = made.commands[command.command_id].connected = False
        assert [output.text async for output in command] == ["hello\r\n", "oh\r\n"]
        assert toy.requests.count("Reconnect") == 2
        await command.aclose()


async def test_a_shell_that_stays_disconnected_is_not_asked_for_ever():
    async def broken(body):
        if b"shell/Reconnect<" in body:
            toy.fault_next["Receive"] = Fault(DISCONNECTED, "w:InternalError", "The shell is disconnected. ")
        return await toy.post(body)

    async with service({"greet": greet}) as (toy, _), await CommandShell.open(WSMan(broken, URL)) as shell:
        toy.fault_next["Receive"] = Fault(DISCONNECTED, "w:InternalError", "The shell is disconnected. ")
        with pytest.raises(RemoteProtocolError, match="again and again"):
            await shell.run("greet")
        toy.fault_next.clear()


# --- faults ---


async def test_a_fault_has_the_number_the_kind_and_the_words_of_the_service():
    async with service() as (toy, wsman):
        toy.fault_next["Create"] = Fault(5, "w:AccessDenied", "Access is denied. ")
        with pytest.raises(WSManFault) as caught:
            await CommandShell.open(wsman)
        error = caught.value
        assert (error.code, error.subcode, error.reason) == (5, "w:AccessDenied", "Access is denied")
        assert str(error).startswith("the service answered with fault 5: Access is denied (the user may log on")


def test_a_fault_that_nobody_knows_blames_no_peer():
    """Without advice of its own, the command would say that the peer broke the protocol."""
    assert "event log" in str(WSManFault(87, "w:InvalidParameter", "The parameter is incorrect").hint)


async def test_a_shell_that_is_gone_can_be_closed():
    async with service() as (toy, wsman):
        shell = await CommandShell.open(wsman)
        toy.shells.clear()
        with pytest.raises(WSManFault) as caught:
            await shell.start("greet")
        assert caught.value.code == UNEXPECTED_SELECTORS
        await shell.aclose()
        await shell.aclose()
        assert toy.requests.count("Delete") == 1


@pytest.mark.parametrize("word", ["a\0b", "\x1b[2J", "\ud800"])
async def test_a_command_that_xml_cannot_hold_is_refused_before_it_is_sent(word):
    async with service() as (toy, wsman), await CommandShell.open(wsman) as shell:
        with pytest.raises(ValueError, match="expected characters that xml can hold, got U\\+"):
            await shell.start(word)
        assert "Command" not in toy.requests


async def test_a_command_may_have_every_character_that_xml_can_hold():
    said = "echo <&>\"' \t\r\n ]]> é 𝄞"
    async with service({"echo": greet}) as (toy, wsman), await CommandShell.open(wsman) as shell:
        await shell.run(said)
        assert toy.started == [said]


# --- keep-alive ---


async def test_a_tiny_idle_time_out_keeps_nobody_busy(monkeypatch):
    naps, sleep, slept = [], asyncio.sleep, asyncio.Event()

    async def nap(seconds):
        if seconds == 0:
            return await sleep(0)
        naps.append(seconds)
        slept.set()
        return await asyncio.Event().wait()

    monkeypatch.setattr(asyncio, "sleep", nap)
    async with service(idle_timeout="PT0.001S") as (_, wsman), await CommandShell.open(wsman):
        await slept.wait()
    assert naps[0] > 0.5


@pytest.fixture
def short_pauses(monkeypatch):
    monkeypatch.setattr(shell_module, "_LEAST_PAUSE", 0.01)


@pytest.mark.usefixtures("short_pauses")
async def test_a_shell_that_nobody_uses_is_kept_alive_below_its_idle_time_out():
    async with service(idle_timeout="PT0.06S") as (toy, wsman), await CommandShell.open(wsman) as shell:
        await toy.until("Get", 2)
        assert await shell.run("true")


@pytest.mark.usefixtures("short_pauses")
async def test_a_shell_that_vanished_is_no_longer_kept_alive():
    async with service(idle_timeout="PT0.03S") as (toy, wsman):
        shell = await CommandShell.open(wsman)
        toy.shells.clear()
        await shell._shell._keeper
        await shell.aclose()


# --- answers that are none ---


@pytest.mark.parametrize(
    ("status", "answer", "error", "said"),
    [
        (200, b"", RemoteProtocolError, "no xml"),
        (200, b"<html>", RemoteProtocolError, "no xml"),
        (200, b"<html/>", RemoteProtocolError, "other xml"),
        (404, b"<html>not found</html>", RemoteProtocolError, "got http status 404 .check the path"),
        (503, b"", RemoteProtocolError, "got http status 503"),
        (200, b"x" * (1 << 20) + b"x", LimitExceeded, "at most 1048576 bytes"),
        (200, b"<a>" * 100, LimitExceeded, "at most 64 elements"),
        (200, b'<?xml version="1.0" encoding="x-nobody"?><a/>', RemoteProtocolError, "no xml"),
        (200, b'<?xml version="1.0" encoding="utf-7"?><a/>', RemoteProtocolError, "no xml"),
        (200, b'<?xml version="1.0" encoding="idna"?><a/>', RemoteProtocolError, "no xml"),
        (200, b"<!DOCTYPE a><a/>", RemoteProtocolError, "got xml with a document type"),
        (200, b'<!DOCTYPE a [<!ENTITY b "b">]><a>&b;</a>', RemoteProtocolError, "got xml with a document type"),
    ],
)
async def test_an_answer_that_is_no_envelope_is_refused(status, answer, error, said):
    async def post(body):
        return status, answer

    with pytest.raises(error, match=said):
        await WSMan(post, URL).identify()


@pytest.mark.parametrize(
    ("action", "inside", "said"),
    [
        ("Create", "", "identifier of the new shell"),
        ("Command", "<rsp:CommandResponse/>", "identifier of the new command"),
        ("Receive", "", "output of a command"),
        ("Receive", '<rsp:ReceiveResponse><rsp:Stream Name="stdout">*</rsp:Stream></rsp:ReceiveResponse>', "in base64"),
        (
            "Receive",
            (
                '<rsp:ReceiveResponse><rsp:CommandState State="x/CommandState/Done"><rsp:ExitCode>one</rsp:ExitCode>'
                "</rsp:CommandState></rsp:ReceiveResponse>"
            ),
            "exit code of 32 bits",
        ),
        (
            "Receive",
            '<rsp:ReceiveResponse><rsp:CommandState State="x/CommandState/Done"/></rsp:ReceiveResponse>',
            "expected the exit status of the command with its end, got none",
        ),
    ],
)
async def test_an_answer_without_what_was_asked_for_is_refused(action, inside, said):
    async with service({"greet": greet}) as (toy, wsman):

        async def answer(root):
            return inside

        setattr(toy, f"on_{action.lower()}", answer)
        with pytest.raises(RemoteProtocolError, match=said):
            async with await CommandShell.open(wsman) as shell:
                await shell.run("greet")


async def test_the_answer_to_another_request_is_refused():
    async with service() as (toy, _):

        async def post(body):
            status, answer = await toy.post(body)
            return status, re.sub(b"<a:RelatesTo>[^<]*<", b"<a:RelatesTo>uuid:1<", answer)

        with pytest.raises(RemoteProtocolError, match="the answer to another one"):
            await CommandShell.open(WSMan(post, URL))
