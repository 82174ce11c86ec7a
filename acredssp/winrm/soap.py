"""The SOAP envelopes of WS-Management, without I/O: requests to bytes, and bytes to replies or faults.

Prefixes and the order of headers are those that Windows' own client writes ([MS-WSMV] 4). What a service answers is
read without document types, and so without entities, and within bounds.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Final
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape, quoteattr

from acredssp.errors import LimitExceeded, RemoteProtocolError
from acredssp.winrm.errors import NOT_WINRM, WSManFault

__all__ = ["NAMESPACES", "Option", "Reply", "Request", "Session", "attribute", "find", "parse", "text"]

NAMESPACES: Final = {
    "s": "http://www.w3.org/2003/05/soap-envelope",
    "a": "http://schemas.xmlsoap.org/ws/2004/08/addressing",
    "w": "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd",
    "p": "http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd",
    "f": "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault",
    "x": "http://schemas.xmlsoap.org/ws/2004/09/transfer",
    "rsp": "http://schemas.microsoft.com/wbem/wsman/1/windows/shell",
    "wsmid": "http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd",
}
_WRITTEN: Final = " ".join(f'xmlns:{name}="{NAMESPACES[name]}"' for name in ("s", "a", "w", "p", "rsp"))
_ANONYMOUS: Final = f"{NAMESPACES['a']}/role/anonymous"
_MUST: Final = 's:mustUnderstand="true"'
_MAY: Final = 's:mustUnderstand="false"'
_COMPLY: Final = ' MustComply="true"'
_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MOST_DEPTH: Final = 64
"""Elements inside each other. The deepest answer of a service has ten."""
_MOST_REASON: Final = 2_000


@dataclasses.dataclass(frozen=True, slots=True)
class Option:
    """An option of a request.

    Attributes:
        name: Its name, such as `WINRS_CODEPAGE`.
        value: Its value.
        must_comply: Whether a service that does not know the option has to refuse the request.
    """

    name: str
    value: str
    must_comply: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What all requests of a client have in common.

    Attributes:
        url: The address of the service.
        session_id: A UUID that the requests of one client share.
        max_envelope_size: Bytes of an envelope at most, of the client's and of the service's. 153,600 is what every
            service takes.
        locale: The language of texts, after RFC 3066.
    """

    url: str
    session_id: str
    max_envelope_size: int = 153_600
    locale: str = "en-US"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request, apart from what `Session` and the moment add to it.

    Attributes:
        action: What to do.
        resource: What to do it with.
        body: The XML inside of `s:Body`.
        selectors: Which instance of the resource.
        options: The options, in order.
        repeatable: Whether the request does no harm if the service gets it twice.
    """

    action: str
    resource: str
    body: str = dataclasses.field(default="", repr=False)
    selectors: Mapping[str, str] = dataclasses.field(default_factory=dict)
    options: tuple[Option, ...] = ()
    repeatable: bool = False

    @property
    def name(self) -> str:
        """The action's name in words of people."""
        return self.action.rpartition("/")[2].lower()

    def encode(
        self, session: Session, message_id: str, operation_id: str, timeout: float, *, again: bool = False
    ) -> bytes:
        """Return the envelope.

        Args:
            session: What the client's requests have in common.
            message_id: A new UUID.
            operation_id: A UUID of the operation: a request that is sent again keeps it.
            timeout: Seconds within which the service has to answer.
            again: Whether the request is sent again ([MS-WSMV] 3.1.4.1.39): a service that did it already then repeats
                its answer.

        Raises:
            ValueError: A text has characters that XML cannot hold.
        """
        header = (
            f"<a:Action {_MUST}>{text(self.action)}</a:Action>"
            f"<a:To>{text(session.url)}</a:To>"
            f"<w:ResourceURI {_MUST}>{text(self.resource)}</w:ResourceURI>"
            f"<a:ReplyTo><a:Address {_MUST}>{_ANONYMOUS}</a:Address></a:ReplyTo>"
            f"<w:MaxEnvelopeSize {_MUST}>{session.max_envelope_size}</w:MaxEnvelopeSize>"
            f"<a:MessageID>uuid:{message_id}</a:MessageID>"
            f"<w:Locale {_MAY} xml:lang={attribute(session.locale)}/>"
            f"<p:DataLocale {_MAY} xml:lang={attribute(session.locale)}/>"
            f"<p:SessionId {_MAY}>uuid:{session.session_id}</p:SessionId>"
            f"<p:OperationID {_MUST if again else _MAY}>uuid:{operation_id}</p:OperationID>"
            f"<p:SequenceId {_MAY}>1</p:SequenceId>"
            f"<w:OperationTimeout>PT{timeout:.3f}S</w:OperationTimeout>"
            f"{_option_set(self.options)}{_selector_set(self.selectors)}"
        )
        envelope = f"<s:Envelope {_WRITTEN}><s:Header>{header}</s:Header><s:Body>{self.body}</s:Body></s:Envelope>"
        return envelope.encode()


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is no fault.

    Attributes:
        body: The element `s:Body`.
        robust: Whether the service can repeat this answer, if the request is sent again with the same operation.
        repeated: Whether the request was sent again, since the connection was lost before.
    """

    body: ET.Element
    robust: bool = False
    repeated: bool = False


def parse(data: bytes, limit: int, message_id: str | None = None) -> Reply:
    """Read an answer.

    Args:
        data: The envelope.
        limit: Bytes that it may have.
        message_id: The request that it has to answer; None where answers name none.

    Raises:
        WSManFault: The service refuses the request.
        LimitExceeded: The envelope is too large, or nests too deep.
        RemoteProtocolError: It is no envelope, or answers another request.
    """
    root = _tree(data, limit)
    body = root.find("s:Body", NAMESPACES)
    if root.tag != f"{{{NAMESPACES['s']}}}Envelope" or body is None:
        raise RemoteProtocolError("expected a soap envelope with a body, got other xml", hint=NOT_WINRM)
    if (fault := body.find("s:Fault", NAMESPACES)) is not None:
        raise _fault(fault)
    related = find(root, "s:Header/a:RelatesTo") or ""
    if message_id is not None and related.lower() != f"uuid:{message_id}".lower():
        raise RemoteProtocolError("expected the answer to this request, got the answer to another one")
    return Reply(body, find(root, "s:Header/p:OperationID") is not None)


def find(element: ET.Element, path: str) -> str | None:
    """Return the text of the element at a path; None where there is no such element."""
    found = element.find(path, NAMESPACES)
    return None if found is None else (found.text or "").strip()


def text(value: str) -> str:
    """Return `value` as the text of an element.

    Raises:
        ValueError: It has characters that XML cannot hold.
    """
    if bad := _NO_XML.search(value):
        raise ValueError(f"expected characters that xml can hold, got U+{ord(bad[0]):04X}")
    return escape(value, {"\r": "&#13;"})


def attribute(value: str) -> str:
    """Return `value` as the value of an attribute, in quotes.

    Raises:
        ValueError: It has characters that XML cannot hold.
    """
    text(value)
    return quoteattr(value)


def _option_set(options: tuple[Option, ...]) -> str:
    if not options:
        return ""
    each = "".join(
        f"<w:Option Name={attribute(option.name)}{_COMPLY if option.must_comply else ''}>"
        f"{text(option.value)}</w:Option>"
        for option in options
    )
    return f"<w:OptionSet {_MUST}>{each}</w:OptionSet>"


def _selector_set(selectors: Mapping[str, str]) -> str:
    if not selectors:
        return ""
    each = "".join(
        f"<w:Selector Name={attribute(name)}>{text(value)}</w:Selector>" for name, value in selectors.items()
    )
    return f"<w:SelectorSet>{each}</w:SelectorSet>"


class _Bounded(ET.TreeBuilder):
    """Builds the tree, and refuses what a service has no reason to send."""

    depth = 0

    def doctype(self, name: str, pubid: str, system: str) -> None:  # noqa: ARG002 - what the parser gives
        raise RemoteProtocolError("expected a soap envelope, got xml with a document type", hint=NOT_WINRM)

    def start(self, tag: str, attrs: dict[Any, Any], /) -> ET.Element:
        self.depth += 1
        if self.depth > _MOST_DEPTH:
            raise LimitExceeded(f"expected at most {_MOST_DEPTH} elements inside each other, got more")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> ET.Element:
        self.depth -= 1
        return super().end(tag)


def _tree(data: bytes, limit: int) -> ET.Element:
    if len(data) > limit:
        raise LimitExceeded(f"expected an envelope of at most {limit} bytes, got {len(data)}")
    parser = ET.XMLParser(target=_Bounded())  # noqa: S314 - without document types, and bounded
    try:
        parser.feed(data)
        root: ET.Element = parser.close()
    except (ET.ParseError, LookupError, ValueError) as error:  # the last two come from encodings that it names
        raise RemoteProtocolError(
            f"expected a soap envelope, got {len(data)} bytes that are no xml", hint=NOT_WINRM
        ) from error
    return root


def _fault(fault: ET.Element) -> WSManFault:
    subcode = find(fault, "s:Code/s:Subcode/s:Value") or find(fault, "s:Code/s:Value") or "none"
    reason, code = find(fault, "s:Reason/s:Text"), None
    detail = fault.find("s:Detail/f:WSManFault", NAMESPACES)
    if detail is not None:
        number = detail.get("Code", "")
        code = int(number) if re.fullmatch("[0-9]{1,10}", number) else None
        message = detail.find("f:Message", NAMESPACES)
        reason = (" ".join("".join(message.itertext()).split()) if message is not None else "") or reason
    words = " ".join((reason or "without a reason").split())[:_MOST_REASON]
    return WSManFault(code, subcode, words.removesuffix("."))
