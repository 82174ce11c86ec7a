"""PowerShell against psrpcore's server side behind the toy service."""

import asyncio
import contextlib
import datetime as dt

import pytest
from support.pages import blocks
from support.wsman_toy import Fault

from acredssp.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from acredssp.winrm import OutcomeUnknown, WSMan, WSManFault

powershell = pytest.importorskip("acredssp.winrm.powershell", exc_type=ImportError)
PowerShellToy = pytest.importorskip("support.wsman_powershell").PowerShellToy
HostMethodIdentifier, RunspacePool = powershell.HostMethodIdentifier, powershell.RunspacePool

URL = "http://toy:5985/wsman"


@contextlib.asynccontextmanager
async def opened(scripts=None, *, client=None, **options):
    """A toy and an open pool of it."""
    toy = PowerShellToy(scripts, **options)
    try:
        async with await RunspacePool.open(WSMan(toy.post, URL, first_delay=0, **(client or {}))) as pool:
            yield toy, pool
    finally:
        await toy.aclose()


async def greet(script):
    script.write_output("hello")
    script.write_output("wörld 𝄞")


async def run(function, *, lines=None, **options):
    async with opened({"x": function}, **options) as (toy, pool):
        done = await pool.run("x", lines=lines)
        assert toy.started[0] == "x"
        assert toy.started.count("x") == 1
        return done


async def test_a_script_runs_and_its_output_comes_back_as_text():
    async with opened({"x": greet}) as (toy, pool):
        done = await pool.run("x")
        assert (done.exit_code, done.stdout, done.stderr) == (0, "hello\nwörld 𝄞\n", "")
        (shell,) = toy.shells.values()
        assert shell.commands == {}, "the client lets go of a pipeline"
        assert shell.details["InputStreams"] == "stdin pr"
        (first, *_) = toy.running.values()
        assert [(each.command_text, each.parameters) for each in first.commands] == [
            ("x", []),
            ("Out-String", [("Stream", True)]),
        ]
        assert first.shell.pool.host.IsHostUINull
    assert toy.shells == {}
    assert set(toy.requests) == {"Create", "Receive", "Command", "Signal", "Delete"}


async def test_a_closed_pool_starts_nothing():
    async with opened({"x": greet}) as (toy, pool):
        pipeline = await pool.start("x")
        await pool.aclose()
        asked = list(toy.requests)
        for call in pool.run("x"), anext(aiter(pipeline)):
            with pytest.raises(TypeError, match="script: expected the text of one script as a str, got list"):
                await pool.run(["Get-Service", "WinRM"])
            with pytest.raises(LocalProtocolError, match="the shell is closed: nothing was sent"):
                await call
        await pipeline.aclose()
        assert toy.requests == asked
        assert repr(pool).endswith(" closed>")
        assert repr(pipeline) == f"<Pipeline {pipeline.command_id} Running>"


async def test_output_may_be_objects():
    async def objects(script):
        for value in (3, {"a": 1}, [1, "b"], None, dt.datetime(2026, 1, 2, tzinfo=dt.UTC)):
            script.write_output(value)

    async with opened({"x": objects}) as (toy, pool):
        pipeline = await pool.start("x", as_text=False)
        records = [record async for record in pipeline]
        await pipeline.aclose()
        assert [record.value for record in records[:4]] == [3, {"a": 1}, [1, "b"], None]
        assert records[4].value.year == 2026
        (script,) = toy.running.values()
        assert [each.command_text for each in script.commands] == ["x"]
        assert pipeline.state == "Completed"


async def test_every_stream_has_its_text():
    async def every(script):
        script.write_output("out")
        script.error("boom")
        script.write_warning("careful")
        script.write_verbose("so it is")
        script.write_debug("inside")
        script.write_information("told", source="Write-Host")
        script.write_progress("Copying", 1, "5 of 10")

    async with opened({"x": every}) as (_, pool):
        pipeline = await pool.start("x")
        records = [(record.stream, record.text) async for record in pipeline]
        await pipeline.aclose()
    category = "    + CategoryInfo          : InvalidOperation (:) [], ToyException"
    assert records == [
        ("output", "out"),
        ("error", f"boom\n{category}\n    + FullyQualifiedErrorId : Toy"),
        ("warning", "WARNING: careful"),
        ("verbose", "VERBOSE: so it is"),
        ("debug", "DEBUG: inside"),
        ("information", "told"),
        ("progress", "Copying: 5 of 10"),
    ]


async def fine(script):
    script.write_output("fine")


async def with_error(script):
    script.error("boom")
    script.write_output("after")


async def with_native_errors(script):
    script.error("Cloning into 'x'...", "NativeCommandError")
    script.error("done.", "NativeCommandErrorMessage")


async def leaves_with_4(script):
    script.host_call(HostMethodIdentifier.SetShouldExit, [4])


async def leaves_with_minus_1(script):
    script.error("boom")
    script.host_call(HostMethodIdentifier.SetShouldExit, [-1])


@pytest.mark.parametrize(
    ("function", "last", "exit_code"),
    [
        (fine, None, 0),
        (fine, 0, 0),
        (fine, 3, 3),
        (fine, -1, 0xFFFFFFFF),
        (with_error, None, 1),
        (with_error, 7, 7),
        (with_native_errors, 0, 0),
        (leaves_with_4, 7, 4),
        (leaves_with_minus_1, 0, 0xFFFFFFFF),
    ],
)
async def test_the_exit_status_of_a_script(function, last, exit_code):
    async with opened({"x": function}) as (toy, pool):
        toy.last_exit_code = last
        assert (await pool.run("x")).exit_code == exit_code


async def test_lines_of_a_program_s_standard_error_are_shown_as_they_are():
    assert (await run(with_native_errors)).stderr == "Cloning into 'x'...\ndone.\n"


async def test_a_script_that_an_error_ends_has_status_1_and_says_why():
    async def fails(script):
        script.write_output("begun")
        error = script.pipeline.runspace_pool  # the pipeline has no public way to fail
        assert error is not None
        script.pipeline._change_state(powershell.PSInvocationState.Failed, stopped("no such thing"))
        script.toy.flush(script.shell)

    done = await run(fails)
    assert done.exit_code == 1
    assert done.stdout == "begun\n"
    assert done.stderr.startswith("no such thing\n    + CategoryInfo")


def stopped(message):
    return powershell.ErrorRecord(
        Exception=powershell.NETException(Message=message),
        CategoryInfo=powershell.ErrorCategoryInfo(Category=powershell.ErrorCategory.InvalidOperation),
        FullyQualifiedErrorId="CommandNotFoundException",
    )


async def upper(script):
    for line in await script.input():
        script.write_output(line.upper())


@pytest.mark.parametrize("lines", [[], ["a"], ["one", "tw\N{LATIN SMALL LETTER O WITH DIAERESIS}"], ["x" * 300_000]])
async def test_lines_reach_the_script(lines):
    assert (await run(upper, lines=lines)).stdout == "".join(f"{line.upper()}\n" for line in lines)


async def test_a_script_larger_than_an_envelope_is_sent_in_parts():
    words = "#" * 400_000
    async with opened({words: greet}) as (toy, pool):
        assert (await pool.run(words)).stdout == "hello\nwörld 𝄞\n"
        assert toy.requests.count("Command") == 2
        assert toy.requests.count("Send") >= 3


async def test_output_larger_than_an_envelope_comes_in_parts():
    async def large(script):
        script.write_output("y" * 500_000)

    assert (await run(large)).stdout == "y" * 500_000 + "\n"


async def test_two_scripts_at_once_do_not_mix():
    both = asyncio.Barrier(2)

    def says(word):
        async def script(script):
            await both.wait()
            for _ in range(20):
                script.write_output(word)
                await asyncio.sleep(0)

        return script

    async with opened({"a": says("a"), "b": says("b")}) as (_, pool):
        a, b = await asyncio.gather(pool.run("a"), pool.run("b"))
    assert (a.stdout, b.stdout) == ("a\n" * 20, "b\n" * 20)


async def test_an_interrupted_script_is_stopped():
    async def waits(script):
        script.write_output("begun")
        await asyncio.Event().wait()

    async with opened({"x": waits}) as (_, pool):
        pipeline, texts = await pool.start("x"), []
        async for record in pipeline:
            texts.append(record.text)
            await pipeline.interrupt()
        assert (texts, pipeline.state) == (["begun"], "Stopped")
        assert await pipeline.exit_code() == 1
        await pipeline.interrupt()
        await pipeline.aclose()
        await pipeline.aclose()


async def test_a_script_that_asks_at_the_terminal_is_told_that_there_is_none():
    async def asks(script):
        script.host_call(HostMethodIdentifier.WriteLine2, ["for the terminal"])
        script.host_call(HostMethodIdentifier.ReadLine)
        script.write_output(str((await script.answers.get()).error))

    assert (await run(asks)).stdout == "there is no terminal to ask at\n"


# --- lost connections ---


@pytest.mark.parametrize("when", ["before", "while", "after"])
async def test_a_connection_lost_during_receive_loses_nothing_and_runs_no_script_twice(when):
    async with opened({"x": greet}) as (toy, pool):
        toy.lose("Receive", when)
        done = await pool.run("x")
        assert (done.exit_code, done.stdout, done.may_lack_output) == (0, "hello\nwörld 𝄞\n", False)
        assert toy.started.count("x") == 1


@pytest.mark.parametrize("when", ["while", "after"])
async def test_a_script_whose_start_was_not_confirmed_is_found_by_its_identifier(when):
    async with opened({"x": greet}) as (toy, pool):
        toy.lose("Command", when)
        assert (await pool.run("x")).stdout == "hello\nwörld 𝄞\n"
        assert toy.started.count("x") == 1


@pytest.mark.parametrize("words", ["x", "#" * 400_000])
async def test_a_script_whose_start_got_lost_is_not_started_again(words):
    async with opened({words: greet}) as (toy, pool):
        toy.lose("Command", "before")
        with pytest.raises(OutcomeUnknown, match="request command"):
            await pool.run(words)
        assert toy.started == []
        assert toy.requests.count("Command") == 1
        assert (await pool.run(words)).stdout == "hello\nwörld 𝄞\n", "the pool can still be used"


async def test_output_that_got_lost_is_told_of_where_the_service_cannot_repeat_it():
    async def slow(script):
        script.write_output("first")
        await goes_on.wait()
        script.write_output("second")

    goes_on = asyncio.Event()
    async with opened({"x": slow}, robust=False) as (toy, pool):
        toy.lose("Receive", "after")
        running = asyncio.create_task(pool.run("x"))
        await toy.until("Receive", 3)
        goes_on.set()
        done = await running
        assert done.may_lack_output
        assert done.stdout == "second\n"


# --- what goes wrong ---


async def test_a_refused_pool_is_no_pool():
    toy = PowerShellToy()
    toy.fault_next["Create"] = Fault(5, "w:AccessDenied", "Access is denied. ")
    with pytest.raises(WSManFault, match="Access is denied"):
        await RunspacePool.open(WSMan(toy.post, URL))


async def test_a_pool_that_the_service_breaks_is_deleted():
    class Breaking(PowerShellToy):
        async def created(self, identifier, made, shell):
            await super().created(identifier, made, shell)
            made.pool.set_broken(stopped("out of memory"))
            self.flush(made)

    toy = Breaking()
    with pytest.raises(RemoteProtocolError, match="broke the pool of runspaces: out of memory"):
        await RunspacePool.open(WSMan(toy.post, URL))
    assert toy.shells == {}


@pytest.mark.parametrize(
    "data", [b"x", b"\0" * 16 + b"\3" + b"\0" * 4, bytes(8) + b"\0" * 8 + b"\x03" + (50).to_bytes(4, "big") + b"?" * 50]
)
async def test_bytes_that_are_no_messages_end_the_reading(data):
    async def broken(script):
        script.process.write("stdout", data)

    async with opened({"x": broken}) as (_, pool):
        with pytest.raises(RemoteProtocolError, match="expected messages of psrp"):
            await pool.run("x")


@pytest.mark.parametrize("kind", ["ErrorRecord", "WarningRecord", "ProgressRecord", "InformationRecord"])
@pytest.mark.parametrize("value", [b"<S>x</S>", b"<Nil/>", b'<Obj RefId="0"><MS/></Obj>'])
async def test_a_record_of_another_type_ends_the_reading(kind, value):
    async def lying(script):
        number = int(getattr(powershell.psrpcore.types.PSRPMessageType, kind))
        names = script.shell.pool.runspace_pool_id.bytes_le + script.pipeline.pipeline_id.bytes_le
        message = (1).to_bytes(4, "little") + number.to_bytes(4, "little") + names + value
        head = (500).to_bytes(8, "big") + bytes(8) + b"\3"
        script.process.write("stdout", head + len(message).to_bytes(4, "big") + message)

    async with opened({"x": lying}) as (_, pool):
        with pytest.raises(RemoteProtocolError, match="expected messages of psrp"):
            await pool.run("x")


async def test_a_script_that_ends_without_a_word_is_an_error():
    async def silent(script):
        script.process.exit_code = 0
        script.process.changed.set()
        await asyncio.Event().wait()

    async with opened({"x": silent}) as (_, pool):
        with pytest.raises(RemoteProtocolError, match="the state in which the script ended"):
            await pool.run("x")


async def test_an_object_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(powershell, "_MOST_WITHOUT_EVENT", 100_000)

    async def endless(script):
        for number in range(10):
            data = b"z" * 30_000
            head = (99).to_bytes(8, "big") + number.to_bytes(8, "big") + bytes([number == 0])
            script.process.write("stdout", head + len(data).to_bytes(4, "big") + data)

    async with opened({"x": endless}) as (_, pool):
        with pytest.raises(LimitExceeded, match="an object of at most"):
            await pool.run("x")


EXAMPLE = next(block for block in blocks() if block.page == "docs/winrm.md" and "RunspacePool" in block.first)


async def test_the_example_of_the_documentation_runs(capsys):
    async def number(script):
        script.write_output(3)

    names = {}
    exec(EXAMPLE.compiled(), names)  # noqa: S102 - our own page
    toy = PowerShellToy({"Get-Service WinRM": greet, "Get-ChildItem": number})
    await names["main"](WSMan(toy.post, URL))
    assert capsys.readouterr().out == "0 hello\nwörld 𝄞\n\noutput 3\n"
    assert toy.shells == {}
