import pytest

from acredssp.errors import LocalProtocolError
from acredssp.sspi import (
    SECBUFFER_DATA,
    SECBUFFER_EMPTY,
    SECBUFFER_EXTRA,
    SECBUFFER_MISSING,
    SECBUFFER_READONLY,
    SECBUFFER_READONLY_WITH_CHECKSUM,
    SECBUFFER_TOKEN,
    SecBuffer,
    SecBufferDesc,
    SecurityStatus,
)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_buffer_counts_all_of_its_memory_unless_told(kind):
    assert bytes(SecBuffer(SECBUFFER_TOKEN, kind(b"abcdef"))) == b"abcdef"
    assert bytes(SecBuffer(SECBUFFER_TOKEN, kind(b"abcdef"), 2)) == b"ab"


def test_a_buffer_is_empty_unless_told():
    buffer = SecBuffer()
    assert (buffer.BufferType, buffer.pvBuffer, buffer.cbBuffer) == (SECBUFFER_EMPTY, None, 0)
    assert bytes(buffer) == b""


def test_a_count_past_the_memory_reads_no_further_than_the_memory():
    buffer = SecBuffer(SECBUFFER_TOKEN, b"abc")
    buffer.cbBuffer = 99
    assert bytes(buffer) == b"abc"


def test_memory_of_wide_elements_is_counted_in_bytes():
    words = memoryview(bytearray(16)).cast("L")
    buffer = SecBuffer(SECBUFFER_TOKEN, words)
    assert buffer.cbBuffer == 16
    assert buffer.put(b"x" * 16, allocate=False) is SecurityStatus.SEC_E_OK
    assert words.tobytes() == b"x" * 16


def test_memory_of_another_type_is_refused():
    with pytest.raises(TypeError, match="pvBuffer: expected bytes, bytearray, memoryview or None, got str"):
        SecBuffer(SECBUFFER_TOKEN, "text")


@pytest.mark.parametrize("attribute", [0, SECBUFFER_READONLY, SECBUFFER_READONLY_WITH_CHECKSUM])
def test_attribute_bits_are_no_part_of_the_type(attribute):
    buffer = SecBuffer(SECBUFFER_TOKEN | attribute, b"abc")
    assert buffer.type == SECBUFFER_TOKEN
    assert buffer.readonly is bool(attribute)
    assert SecBufferDesc([SecBuffer(), buffer]).find(SECBUFFER_TOKEN) is buffer


def test_allocated_memory_is_the_packages_until_it_is_freed():
    buffer = SecBuffer(SECBUFFER_TOKEN)
    assert buffer.put(b"token", allocate=True) is SecurityStatus.SEC_E_OK
    assert (buffer.pvBuffer, buffer.cbBuffer, buffer.allocated) == (b"token", 5, True)
    assert buffer.free()
    assert (buffer.pvBuffer, buffer.cbBuffer, buffer.allocated) == (None, 0, False)


def test_the_callers_memory_is_filled_in_place_and_never_freed():
    memory = bytearray(8)
    buffer = SecBuffer(SECBUFFER_TOKEN, memory)
    assert buffer.put(b"token", allocate=False) is SecurityStatus.SEC_E_OK
    assert (memory, buffer.cbBuffer) == (b"token\0\0\0", 5)
    assert bytes(buffer) == b"token"
    assert not buffer.free()
    assert buffer.pvBuffer is memory


def test_memory_that_is_too_small_stays_as_it_is_and_the_size_is_told():
    memory = bytearray(b"1234")
    buffer = SecBuffer(SECBUFFER_TOKEN, memory)
    assert buffer.put(b"token", allocate=False) is SecurityStatus.SEC_E_BUFFER_TOO_SMALL
    assert (memory, buffer.cbBuffer) == (b"1234", 5)
    buffer.pvBuffer = bytearray(5)
    assert buffer.put(b"token", allocate=False) is SecurityStatus.SEC_E_OK
    assert bytes(buffer) == b"token"


def test_the_count_is_the_room_there_is():
    """As in C: what is behind it is not the package's to write, and a used buffer is set back before its next use."""
    memory = bytearray(8)
    buffer = SecBuffer(SECBUFFER_TOKEN, memory, 3)
    assert buffer.put(b"token", allocate=False) is SecurityStatus.SEC_E_BUFFER_TOO_SMALL
    assert (memory, buffer.cbBuffer) == (bytes(8), 5)
    assert buffer.put(b"token", allocate=False) is SecurityStatus.SEC_E_OK
    for token in (b"ab", b"abcdefgh", b"", b"abc"):
        buffer.cbBuffer = len(memory)
        assert buffer.put(token, allocate=False) is SecurityStatus.SEC_E_OK
        assert bytes(buffer) == token
    assert buffer.put(b"abcd", allocate=False) is SecurityStatus.SEC_E_BUFFER_TOO_SMALL


def test_a_count_past_the_memory_gives_no_more_room_than_the_memory():
    buffer = SecBuffer(SECBUFFER_TOKEN, bytearray(4))
    buffer.cbBuffer = 99
    assert not buffer.has_room(5)
    buffer.cbBuffer = 99
    assert buffer.put(b"token", allocate=False) is SecurityStatus.SEC_E_BUFFER_TOO_SMALL
    assert buffer.cbBuffer == 5


def test_the_room_that_is_asked_for_is_bounded_by_the_count():
    buffer = SecBuffer(SECBUFFER_TOKEN, bytearray(8), 3)
    assert buffer.has_room(3)
    assert not buffer.has_room(4)
    assert buffer.cbBuffer == 4


@pytest.mark.parametrize("count", [-1, -(1 << 31)])
def test_a_negative_count_is_refused(count):
    with pytest.raises(ValueError, match="cbBuffer: expected 0 or more, got -"):
        SecBuffer(SECBUFFER_TOKEN, b"abc", count)
    with pytest.raises(ValueError, match="cbBuffer: expected 0 or more, got -"):
        SecBuffer(SECBUFFER_TOKEN, None, count)
    buffer = SecBuffer(SECBUFFER_TOKEN, b"abc")
    buffer.cbBuffer = count
    with pytest.raises(LocalProtocolError, match="cbBuffer: expected 0 or more, got -") as caught:
        SecBufferDesc([SecBuffer(), buffer]).check()
    assert caught.value.security_status is SecurityStatus.SEC_E_INVALID_PARAMETER


@pytest.mark.parametrize(
    "use",
    [
        lambda buffer: buffer.view,
        lambda buffer: buffer.writable,
        lambda buffer: buffer.has_room(1),
        lambda buffer: buffer.put(b"abc", allocate=False),
        bytes,
    ],
    ids=["view", "writable", "has_room", "put", "bytes"],
)
def test_memory_that_was_released_is_a_type_error(use):
    memory = memoryview(bytearray(8))
    buffer = SecBuffer(SECBUFFER_TOKEN, memory)
    memory.release()
    with pytest.raises(TypeError, match="pvBuffer: expected memory, got a memoryview that was released"):
        use(buffer)
    with pytest.raises(TypeError, match="released"):
        SecBuffer(SECBUFFER_TOKEN, memory)


@pytest.mark.parametrize("member", [None, b"token", SECBUFFER_TOKEN, SecBufferDesc()])
def test_what_is_no_buffer_is_a_type_error(member):
    with pytest.raises(TypeError, match=r"pBuffers\[1\]: expected SecBuffer, got "):
        SecBufferDesc([SecBuffer(), member]).check()


def test_memory_that_cannot_be_written_is_refused():
    with pytest.raises(TypeError, match="cannot be written"):
        SecBuffer(SECBUFFER_TOKEN, b"12345").put(b"abc", allocate=False)


def test_a_slice_of_memory_bounds_what_is_written():
    memory = bytearray(b"........")
    buffer = SecBuffer(SECBUFFER_TOKEN, memoryview(memory)[2:5])
    assert buffer.put(b"abcd", allocate=False) is SecurityStatus.SEC_E_BUFFER_TOO_SMALL
    assert buffer.put(b"abc", allocate=False) is SecurityStatus.SEC_E_OK
    assert memory == b"..abc..."


@pytest.mark.parametrize("kind", [SECBUFFER_MISSING, SECBUFFER_EXTRA])
def test_a_report_goes_into_the_empty_buffer_and_holds_on_to_nothing(kind):
    received = bytearray(b"0123456789")
    desc = SecBufferDesc([SecBuffer(SECBUFFER_TOKEN, received), SecBuffer()])
    assert desc.report(kind, 3)
    spare = desc.pBuffers[1]
    assert (spare.BufferType, spare.cbBuffer, spare.pvBuffer) == (kind, 3, None)
    del received[:7]  # a view would refuse this
    assert received == b"789"


def test_the_report_of_the_last_call_makes_room_for_the_next():
    desc = SecBufferDesc([SecBuffer(SECBUFFER_TOKEN, b"abc"), SecBuffer()])
    desc.report(SECBUFFER_MISSING, 7)
    desc.report(SECBUFFER_EXTRA, 2)
    assert (desc.pBuffers[1].BufferType, desc.pBuffers[1].cbBuffer) == (SECBUFFER_EXTRA, 2)
    desc.report(SECBUFFER_EMPTY, 0)
    assert (desc.pBuffers[1].BufferType, desc.pBuffers[1].cbBuffer) == (SECBUFFER_EMPTY, 0)


@pytest.mark.parametrize("buffers", [[], [SecBuffer(SECBUFFER_TOKEN, b"a")], [SecBuffer(SECBUFFER_READONLY)]])
def test_without_a_spare_buffer_nothing_is_reported(buffers):
    assert not SecBufferDesc(buffers).report(SECBUFFER_EXTRA, 1)


def test_a_descriptor_of_another_version_is_no_descriptor():
    SecBufferDesc().check()
    with pytest.raises(LocalProtocolError) as caught:
        SecBufferDesc(ulVersion=1).check()
    assert caught.value.security_status is SecurityStatus.SEC_E_INVALID_TOKEN


def test_a_descriptor_counts_its_buffers():
    assert SecBufferDesc(SecBuffer() for _ in range(4)).cBuffers == 4


def test_a_repr_has_types_and_lengths_and_no_contents():
    desc = SecBufferDesc([
        SecBuffer(SECBUFFER_DATA, b"Passw0rd!"),
        SecBuffer(),
        SecBuffer(SECBUFFER_TOKEN | SECBUFFER_READONLY, b"abc"),
        SecBuffer(99, b"Passw0rd!"),
    ])  # fmt: skip
    assert repr(desc) == "SecBufferDesc(DATA, 9 bytes; EMPTY, 0 bytes; TOKEN, 3 bytes; 0x63, 9 bytes)"
    assert repr(desc.pBuffers[0]) == "SecBuffer(DATA, 9 bytes)"


@pytest.mark.parametrize("buffers", [[5], [SecBuffer(), None], [b"token"]])
def test_a_descriptor_is_made_of_buffers_alone(buffers):
    with pytest.raises(TypeError, match=rf"^pBuffers\[{len(buffers) - 1}\]: expected SecBuffer, got "):
        SecBufferDesc(buffers)
    desc = SecBufferDesc([])
    desc.pBuffers += buffers
    assert type(buffers[-1]).__name__ in repr(desc)
    assert "b'token'" not in repr(desc)


@pytest.mark.parametrize("memory", [b"a", bytearray(b"a"), memoryview(b"a")])
def test_a_count_is_at_most_what_the_memory_has(memory):
    assert SecBuffer(SECBUFFER_TOKEN, memory, 1).cbBuffer == 1
    with pytest.raises(ValueError, match=r"^cbBuffer: expected at most the 1 bytes of pvBuffer, got 9$"):
        SecBuffer(SECBUFFER_TOKEN, memory, 9)
