"""A program that stands in for Samba's `ntlm_auth`, and misbehaves where the user's name says so.

    python ntlm_auth.py LOG [--helper-protocol=...]

It speaks ntlm-server-1 exactly as Samba 4.17 does, and every user's password is `Passw0rd!`. By squid-2.5-ntlmssp it
tells the names of its machine. Its log has a line for its start and one for each question. It imports nothing of
acredssp, and verifies by the standard library alone.
"""

import base64
import contextlib
import hmac
import os
import signal
import struct
import sys

NT_HASH = bytes.fromhex("fc525c9683e8fe067095ba2ddc971889")  # of Passw0rd!

WRONG_PASSWORD = (
    "When trying to update a password, this return status indicates that the value provided as the current password is "
    "not correct."
)
TROUBLES = {
    "disabled": "The referenced account is currently disabled and cannot be logged on to.",
    "expired": "The user account has expired.",
    "must-change": "The user password must be changed before logging on the first time.",
    "old-password": "NT_STATUS_PASSWORD_EXPIRED",
    "unheard-of": "NT code 0x12345678",
}
"""The answers to a user who has the password."""
SAID_TO_ALL = {
    "nobody": "The specified account does not exist.",
    "locked": "The user account has been automatically locked because too many invalid logon attempts or password "
    "change attempts have been requested.",
    "restricted": "Indicates a referenced user name and authentication information are valid, but some user account "
    "restriction has prevented successful authentication (such as time-of-day restrictions).",
    "no-controller": "No logon servers are currently available to service the logon request.",
    "no-winbindd": "Reading winbind reply failed!",
    "null": "(null)",
}
ODD = {
    "guest": "Authenticated: Yes\n.\n",
    "zero-key": f"Authenticated: Yes\nUser-Session-Key: {bytes(16).hex()}\n.\n",
    "short-key": "Authenticated: Yes\nUser-Session-Key: 00112233\n.\n",
    "no-hex": f"Authenticated: Yes\nUser-Session-Key: {'xy' * 16}\n.\n",
    "maybe": "Authenticated: Maybe\n.\n",
    "error": "Error: No username supplied!\n.\n",
    "nothing": ".\n",
    "dots": ".\n.\n.\n",
    "twice": "Authenticated: No\nAuthenticated: Yes\n.\n",
    "no-colon": "Authenticated\n.\n",
    "many-fields": "".join(f"Field-{number}: x\n" for number in range(50)) + ".\n",
    "endless-line": "x" * 10_000,
    "binary": "\0\1\2\3\n.\n",
    "no-reason": "Authenticated: No\n.\n",
    "more-lines": "Authenticated: No\nAuthentication-Error: x\n.\n.\nAuthenticated: Yes\n",
}
"""Answers that are sent unchanged."""


def say(text):
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()


def read_question():
    """The fields of a question, or None at the end of the input."""
    fields = {}
    for line in sys.stdin.buffer:
        text = line.decode("ascii").rstrip("\n")
        if text == ".":
            return fields
        name, _, value = text.partition(": ")
        if name.endswith(":"):
            name, value = name[:-1], base64.b64decode(value, validate=True).decode()
        fields[name] = value
    return None


def session_key(fields):
    """What a domain controller makes of the response; None for a wrong one."""
    response, challenge = bytes.fromhex(fields["NT-Response"]), bytes.fromhex(fields["LANMAN-Challenge"])
    owf = hmac.digest(NT_HASH, (fields["Username"].upper() + fields["NT-Domain"]).encode("utf-16-le"), "md5")
    proof = hmac.digest(owf, challenge + response[16:], "md5")
    return hmac.digest(owf, proof, "md5").hex().upper() if proof == response[:16] else None


def answer(fields, dots):
    user = fields["Username"]
    key = session_key(fields)
    if user in ODD:
        return ODD[user]
    if user in SAID_TO_ALL:
        reason = SAID_TO_ALL[user]
    elif key is None:
        reason = WRONG_PASSWORD
    elif user in TROUBLES:
        reason = TROUBLES[user]
    else:
        return f"Authenticated: Yes\nUser-Session-Key: {key}\n.\n"
    return f"Authenticated: No\nAuthentication-Error: {reason}\n" + ".\n" * dots


def serve(log, dots):
    while (fields := read_question()) is not None:
        log(f"asked about {fields['Username']!a} of {fields['NT-Domain']!a}, {sorted(fields)}")
        match fields["Username"]:
            case "dies":
                os._exit(3)
            case "dies-halfway":
                say("Authenticated: Yes\nUser-Session-Key: 0011")
                os._exit(0)
            case "hangs":
                signal.pause()
            case "bit-by-bit":
                for byte in answer(fields, dots):
                    say(byte)
            case "leaves":
                say(answer(fields, dots))
                return
            case _:
                say(answer(fields, dots))


def tell_names():
    """Answer a NEGOTIATE with the CHALLENGE_MESSAGE of SRV, which is in CONTOSO."""
    verb, token = sys.stdin.readline().split()
    assert (verb, base64.b64decode(token)[:12]) == ("YR", b"NTLMSSP\0\1\0\0\0")
    names = {2: "CONTOSO", 1: "SRV", 4: "contoso.test", 3: "srv.contoso.test"}
    info = b"".join(
        struct.pack("<HH", av_id, len(data)) + data
        for av_id, data in ((av_id, name.encode("utf-16-le")) for av_id, name in names.items())
    ) + bytes(4)
    header = struct.pack("<8sIHHII8s8xHHI8x", b"NTLMSSP\0", 2, 0, 0, 56, 0x00828205, b"x" * 8, len(info), len(info), 56)
    say(f"TT {base64.b64encode(header + info).decode()}\n")


def main(place, *arguments):
    descriptor = os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def log(line):
        os.write(descriptor, f"{os.getpid()} {line}\n".encode())

    log("started")
    if "--helper-protocol=ntlm-server-1" in arguments:
        with contextlib.suppress(BrokenPipeError):
            serve(log, dots=1 if "--one-dot" in arguments else 2)
    elif "--helper-protocol=squid-2.5-ntlmssp" in arguments:
        tell_names()


if __name__ == "__main__":
    main(*sys.argv[1:])
