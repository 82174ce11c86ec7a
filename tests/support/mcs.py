"""The first PDUs of MCS: recorded ones, and builders of others."""

# Sent by xfreerdp 2.11.7 and xfreerdp3 3.10.3 and by freerdp-shadow-cli3 3.10.3 behind the logon, through a
# gateway.
FREERDP_2 = bytes.fromhex(
    "030001d302f0807f658201c70401010401010101ff301a020122020102020100020101020100020101020300ffff0201023019020101"
    "020101020101020101020100020101020204200201023020020300ffff020300fc17020300ffff020101020100020101020300ffff02"
    "010204820161000500147c00018158000800100001c00044756361814a01c0ea000c0008002003580201ca03aa09040000bb47000076"
    "006d000000000000000000000000000000000000000000000000000000000004000000000000000c0000000000000000000000000000"
    "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000001"
    "ca01000000000018000f00e3050000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "000000000000000000000000000000000000000000000007000200000000000000000000000000000000000000000004c00c000d0000"
    "000000000002c00c00000000000000000003c03800040000007264706472000000000080c0726470736e640000000000c0636c697072"
    "6472000000a0c0647264796e766300000080c006c00800000000000ac0080000000000"
)
"""HYBRID was selected."""
FREERDP_3 = bytes.fromhex(
    "030001d302f0807f658201c70401010401010101ff301a020122020102020100020101020100020101020300ffff0201023019020101"
    "020101020101020101020100020101020204200201023020020300ffff020300fc17020300ffff020101020100020101020300ffff02"
    "010204820161000500147c00018158000800100001c00044756361814a01c0ea00110008000004000301ca03aa00000000bb47000076"
    "006d000000000000000000000000000000000000000000000000000000000004000000000000000c0000000000000000000000000000"
    "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000001"
    "ca01000000000018000f00b20f0000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "0000000000000000000000000000000000000000000000070008000000e8030000e80300000000640000006400000004c00c00150000"
    "000000000002c00c00000000000000000003c03800040000007264706472000000000080c0726470736e640000000000c0636c697072"
    "6472000000a0c0647264796e766300000080c006c00800000000000ac0080001000000"
)
"""HYBRID_EX was selected."""
SHADOW = bytes.fromhex(
    "0300007e02f0807f66740a0100020100301a020122020103020100020101020100020101020300fff80201020450000500147c00012a"
    "14760a01010001c0004d63446e3a010c100011000800030000000a000000030c1000eb030400ec03ed03ee03ef03020c0c0000000000"
    "00000000040c0600f003080c080001000000"
)
"""SSL and HYBRID were requested."""


def ber(tag, content):
    return tag + b"\x82" + len(content).to_bytes(2, "big") + content


def per(content, *, long=False):
    size = len(content)
    return (bytes([size]) if size < 0x80 and not long else (0x8000 | size).to_bytes(2, "big")) + content


def block(kind, content):
    return kind.to_bytes(2, "little") + (len(content) + 4).to_bytes(2, "little") + content


def packet(mcs_pdu):
    return b"\x03\x00" + (len(mcs_pdu) + 7).to_bytes(2, "big") + b"\x02\xf0\x80" + mcs_pdu


_CREATE_REQUEST = bytes.fromhex("00080010 0001c000 44756361")


def initial(blocks, *, head=_CREATE_REQUEST, connect=per, calling=b"\x01"):
    """A Connect-Initial as Windows makes it, around these blocks."""
    user_data = bytes.fromhex("000500147c0001") + connect(head + per(blocks))
    domain = b"\x04" + per(calling) + bytes.fromhex("040101 0101ff") + 3 * ber(b"\x30", bytes.fromhex("020122"))
    return packet(ber(b"\x7f\x65", domain + ber(b"\x04", user_data)))


def response(blocks, *, tag=b"\x01\x01", long=False):
    head = b"\x14\x76\x0a" + tag + bytes.fromhex("00 01 c000 4d63446e")
    user_data = bytes.fromhex("000500147c0001 2a") + head + per(blocks, long=long)
    front = bytes.fromhex("0a0100 020100") + ber(b"\x30", bytes.fromhex("020122"))
    return packet(ber(b"\x7f\x66", front + ber(b"\x04", user_data)))


def core(size):
    """Client Core Data of `size` bytes, header included."""
    return block(0xC001, bytes(size - 4))


def server_core(size):
    return block(0x0C01, bytes(size - 4))


# --- what a server sends behind that ---

ATTACH_USER_CONFIRM = packet(bytes.fromhex("2e00 0006"))
LICENCE = bytes.fromhex("80000000 ff031000 07000000 02000000 28140000")
"""The end of licensing (STATUS_VALID_CLIENT), behind its security header."""


def channel_join_confirm(channel):
    return packet(bytes.fromhex("3e000006") + 2 * channel.to_bytes(2, "big"))


def indication(content, *, channel=1003, long=False):
    """A Send Data Indication with this content."""
    return packet(b"\x68\x00\x01" + channel.to_bytes(2, "big") + b"\x70" + per(content, long=long))


def share_control(kind, body):
    """A PDU with a share control header: 1 is Demand Active, 10 Server Redirection."""
    header = (len(body) + 6).to_bytes(2, "little") + (0x10 | kind).to_bytes(2, "little") + b"\xea\x03"
    return header + body


def redirection(fields, *, session_id=7, flags=0, tail=bytes(8)):
    """A Server Redirection PDU in its share control header; `fields` are (flag, content), in their order."""
    body = b""
    for flag, content in fields:
        flags |= flag
        body += len(content).to_bytes(4, "little") + content
    size = (12 + len(body) + len(tail)).to_bytes(2, "little")
    numbers = session_id.to_bytes(4, "little") + flags.to_bytes(4, "little")
    return share_control(10, b"\0\0\x00\x04" + size + numbers + body + tail)


def utf16(text):
    return f"{text}\0".encode("utf-16-le")
