"""SecBuffer and SecBufferDesc, the buffers that a caller gives to the SSPI functions and that the functions fill.

Memory works like this in Python:

* Input is any bytes-like `pvBuffer`. `cbBuffer` says how many bytes at its front count; by default all of them count.
* Output with ISC_REQ_ALLOCATE_MEMORY arrives as `bytes` that the package allocates; `FreeContextBuffer` takes them
  back.
* Output without that flag goes into the caller's own memory: a `bytearray` (or a writable `memoryview`) in `pvBuffer`.
  `cbBuffer` is the room, and never more than the memory. After the call, `cbBuffer` says how many bytes were written,
  so set it back before you use the buffer again, as in C. If the room is too small, the status is
  SEC_E_BUFFER_TOO_SMALL, `cbBuffer` is the size needed, and nothing is lost.
* MISSING and EXTRA report a count and never a view, since a view would keep the caller's `bytearray` from being cut.
  Only DecryptMessage answers with views of its input.
"""

from collections.abc import Iterable
from typing import Final, TypeAlias

from acredssp.sspi.arguments import expect, refusal
from acredssp.sspi.constants import SECBUFFER_VERSION
from acredssp.sspi.flags import SECBUFFER
from acredssp.status import SecurityStatus

__all__ = ["Memory", "SecBuffer", "SecBufferDesc"]

Memory: TypeAlias = bytes | bytearray | memoryview
_MEMORY: Final = (bytes, bytearray, memoryview)

# These are plain integers: every call looks at four buffers, and an enum's members and operators cost ten times as
# much.
_TYPE_BITS: Final = ~SECBUFFER.ATTRMASK.value
_READONLY_BITS: Final = SECBUFFER.READONLY.value | SECBUFFER.READONLY_WITH_CHECKSUM.value
_OK: Final = SecurityStatus.SEC_E_OK
_SPARE_BITS: Final = _TYPE_BITS | _READONLY_BITS
_SPARE: Final = frozenset({SECBUFFER.EMPTY.value, SECBUFFER.MISSING.value, SECBUFFER.EXTRA.value})


class SecBuffer:
    """One buffer.

    Args:
        BufferType: A `SECBUFFER`, with attribute bits or without.
        pvBuffer: The memory; None for none.
        cbBuffer: Bytes of it that count; None for all.

    Raises:
        TypeError: `pvBuffer` is not bytes-like, or a memoryview that was released.
        ValueError: `cbBuffer` is negative, or more than the memory has.
    """

    __slots__ = ("BufferType", "_allocated", "cbBuffer", "pvBuffer")

    def __init__(
        self, BufferType: int = SECBUFFER.EMPTY, pvBuffer: Memory | None = None, cbBuffer: int | None = None
    ) -> None:
        self.BufferType = BufferType
        self.pvBuffer = pvBuffer
        if cbBuffer is None and pvBuffer is None:
            self.cbBuffer = 0
        elif cbBuffer is None and type(pvBuffer) is bytes:
            self.cbBuffer = len(pvBuffer)
        else:
            self.cbBuffer = _count(pvBuffer, cbBuffer)

    # --- reading ---

    @property
    def type(self) -> int:
        """`BufferType` without its attribute bits."""
        return self.BufferType & _TYPE_BITS

    @property
    def readonly(self) -> bool:
        """Whether the package may read the buffer and not write it."""
        return bool(self.BufferType & _READONLY_BITS)

    @property
    def spare(self) -> bool:
        """Whether a report may go into the buffer: it is EMPTY, or still has the report of an earlier call."""
        return self.BufferType & _SPARE_BITS in _SPARE

    @property
    def allocated(self) -> bool:
        """Whether the package allocated `pvBuffer`, so that FreeContextBuffer should take it back."""
        return getattr(self, "_allocated", False)  # most buffers are never given any, so they set nothing

    @property
    def view(self) -> memoryview:
        """The first `cbBuffer` bytes of the memory, or as many as there are.

        Raises:
            TypeError: The memory is a memoryview that was released.
        """
        return _view(b"" if self.pvBuffer is None else self.pvBuffer)[: self.cbBuffer]

    @property
    def writable(self) -> memoryview:
        """The first `cbBuffer` bytes of the memory, to be written in place.

        Raises:
            TypeError: The memory cannot be written.
        """
        return self._writable()[: self.cbBuffer]

    def __bytes__(self) -> bytes:
        if isinstance(self.pvBuffer, bytes) and self.cbBuffer == len(self.pvBuffer):
            return self.pvBuffer
        return bytes(self.view)

    def __repr__(self) -> str:
        return f"SecBuffer({self._text()})"

    def _text(self) -> str:
        try:
            name = SECBUFFER(self.type).name
        except ValueError:
            name = hex(self.type)
        return f"{name}, {self.cbBuffer} bytes"

    # --- filling, for the functions ---

    def has_room(self, size: int) -> bool:
        """Return whether the caller's buffer has room for `size` bytes; if not, set `cbBuffer` to the size needed.

        Raises:
            TypeError: The buffer's memory cannot be written.
        """
        if self._room() < size:
            self.cbBuffer = size
            return False
        self._writable().release()
        return True

    def put(self, data: Memory, *, allocate: bool) -> SecurityStatus:
        """Give `data` to the caller, as memory that the package allocates or in the caller's own memory.

        Returns:
            SEC_E_OK, or SEC_E_BUFFER_TOO_SMALL with the size needed in `cbBuffer` and the memory untouched.

        Raises:
            TypeError: `pvBuffer` is needed and cannot be written.
        """
        if allocate:
            self.give(data)
            return _OK
        if data:
            if len(data) > self._room():
                self.cbBuffer = len(data)
                return SecurityStatus.SEC_E_BUFFER_TOO_SMALL
            self._writable()[: len(data)] = data
        self.cbBuffer = len(data)
        return _OK

    def give(self, data: Memory) -> None:
        """Give `data` to the caller as memory that the package allocates."""
        self.pvBuffer = data or None
        self.cbBuffer = len(data)
        self._allocated = True

    def become(self, buffer_type: SECBUFFER, count: int = 0, memory: Memory | None = None) -> None:
        """Turn into another kind of buffer: MISSING or EXTRA with a count, or a part of a message with a view."""
        self.BufferType = buffer_type
        self.pvBuffer = memory
        self.cbBuffer = count if memory is None else _size(memory)
        self._allocated = False

    def free(self) -> bool:
        """Take back memory that the package allocated; return False if the memory is the caller's own."""
        if not self.allocated:
            return self.pvBuffer is None
        self.pvBuffer, self.cbBuffer, self._allocated = None, 0, False
        return True

    def _room(self) -> int:
        return min(self.cbBuffer, _size(self.pvBuffer))

    def _writable(self) -> memoryview:
        view = _view(bytearray() if self.pvBuffer is None else self.pvBuffer)
        if view.readonly:
            raise TypeError(
                "pvBuffer: expected a bytearray or a writable memoryview, got memory that cannot be written"
            )
        return view


class SecBufferDesc:
    """The buffers of one call.

    Args:
        pBuffers: The buffers, in the order that the function's page asks for.
        ulVersion: SECBUFFER_VERSION.

    Raises:
        TypeError: `pBuffers` contains something other than buffers.
    """

    __slots__ = ("pBuffers", "ulVersion")

    def __init__(self, pBuffers: Iterable[SecBuffer] = (), ulVersion: int = SECBUFFER_VERSION) -> None:
        self.ulVersion = ulVersion
        self.pBuffers = [*pBuffers]
        if not _BUFFERS.issuperset(map(type, self.pBuffers)):
            self.expect_buffers()

    @property
    def cBuffers(self) -> int:
        """How many buffers there are."""
        return len(self.pBuffers)

    def __repr__(self) -> str:
        # The list belongs to the caller, who may have put anything into it since.
        texts = [
            buffer._text() if isinstance(buffer, SecBuffer) else type(buffer).__name__  # noqa: SLF001 - its own kind
            for buffer in self.pBuffers
        ]
        return f"SecBufferDesc({'; '.join(texts)})"

    def check(self) -> None:
        """Refuse a descriptor of another version, and buffers with a negative count.

        Raises:
            LocalProtocolError: SEC_E_INVALID_TOKEN for the version, SEC_E_INVALID_PARAMETER for a count.
            TypeError: `pBuffers` contains something other than buffers.
        """
        self.expect_buffers()
        if self.ulVersion != SECBUFFER_VERSION:
            raise refusal(
                f"SecBufferDesc: expected version {SECBUFFER_VERSION}, got {self.ulVersion}",
                SecurityStatus.SEC_E_INVALID_TOKEN,
            )
        for buffer in self.pBuffers:
            if buffer.cbBuffer < 0:
                raise refusal(_negative(buffer.cbBuffer), SecurityStatus.SEC_E_INVALID_PARAMETER)

    def expect_buffers(self) -> None:
        """Check that `pBuffers` contains only buffers.

        Raises:
            TypeError: It contains something else.
        """
        for buffer in self.pBuffers:
            if not isinstance(buffer, SecBuffer):
                expect(f"pBuffers[{self.pBuffers.index(buffer)}]", buffer, SecBuffer)

    def find(self, buffer_type: SECBUFFER) -> SecBuffer | None:
        """Return the first buffer of a type, whatever its attribute bits; None if there is none."""
        for buffer in self.pBuffers:
            if buffer.BufferType & _TYPE_BITS == buffer_type:
                return buffer
        return None

    def report(self, buffer_type: SECBUFFER, count: int = 0) -> bool:
        """Turn the first spare buffer into MISSING, EXTRA or EMPTY, with a count; return whether there is one."""
        for buffer in self.pBuffers:
            if buffer.BufferType & _SPARE_BITS in _SPARE:
                if buffer_type or buffer.BufferType:  # an EMPTY buffer need not become EMPTY again
                    buffer.become(buffer_type, count)
                return True
        return False


_BUFFERS: Final = frozenset({SecBuffer})
"""The types of the contents of nearly every descriptor."""


def _count(pvBuffer: Memory | None, cbBuffer: int | None) -> int:
    """Return the count of a new buffer.

    Raises:
        TypeError: The memory is none, or was released.
        ValueError: The count is negative, or more than the memory has.
    """
    if cbBuffer is not None and cbBuffer < 0:
        raise ValueError(_negative(cbBuffer))
    if pvBuffer is None:
        return cbBuffer or 0
    if not isinstance(pvBuffer, _MEMORY):
        kind = type(pvBuffer).__name__
        raise TypeError(f"pvBuffer: expected bytes, bytearray, memoryview or None, got {kind}")
    size = _size(pvBuffer)
    if cbBuffer is not None and cbBuffer > size:
        raise ValueError(f"cbBuffer: expected at most the {size} bytes of pvBuffer, got {cbBuffer}")
    return size if cbBuffer is None else cbBuffer


def _size(memory: Memory | None) -> int:
    if memory is None:
        return 0
    return _view(memory).nbytes if isinstance(memory, memoryview) else len(memory)


def _view(memory: Memory) -> memoryview:
    try:
        return memoryview(memory).cast("B")
    except ValueError:
        raise TypeError("pvBuffer: expected memory, got a memoryview that was released") from None


def _negative(count: int) -> str:
    return f"cbBuffer: expected 0 or more, got {count}"
