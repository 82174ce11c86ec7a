"""Draws a counterexample: as text, as a sequence for Mermaid, and as a graph for graphviz."""

import hashlib
import itertools

from model import attacker, worlds
from model.symbols import SEALS, TICKETS

from acredssp.core.binding import client_value, server_value
from acredssp.errors import CredSSPError
from acredssp.mechanisms.ntlm.messages import AuthenticateMessage, decode_text
from acredssp.wire import spnego, ts_credentials
from acredssp.wire.spnego import NegTokenInit, NegTokenResp, TokenKind
from acredssp.wire.ts_request import TSRequest

_MECHANISMS = {spnego.NTLM: "ntlm", spnego.KERBEROS: "kerberos"}
_KEYS = {worlds.SERVER_KEY: "server's key", worlds.ATTACKERS_KEY: "attacker's key"}


class Words:
    """Says what is in messages.

    Args:
        report: The exploration with the counterexample.
    """

    def __init__(self, report):
        self._said = {}
        self._plain = {
            ts_credentials.encode(worlds.DELEGATED): "credentials of alice",
            attacker.HIS_CREDENTIALS: "credentials of mallory",
        }
        self._sessions = {}
        for step in report.steps:
            self._said.setdefault(step.answer, step.party)
            if step.after.session:
                self._sessions.setdefault(step.after.session, f"session {len(self._sessions) + 1}")
        nonces = {attacker.HIS_NONCE: "n"} | {
            request.client_nonce: f"nonce {number}"
            for number, step in enumerate(report.steps)
            for message in (step.message, step.answer)
            if (request := _request(message)) and request.client_nonce
        }
        for key, name in _KEYS.items():
            self._plain |= {client_value(2, None, key): name, server_value(2, None, key): f"{name} + 1"}
            for nonce in nonces:
                self._plain[client_value(6, nonce, key)] = f"hash c→s of nonce and {name}"
                self._plain[server_value(6, nonce, key)] = f"hash s→c of nonce and {name}"

    def origin(self, message):
        """Whose message it is, as far as it was not made anew."""
        if message in self._said:
            return f"as {self._said[message]} said it"
        return "made by the attacker"

    def message(self, message):
        request = _request(message)
        if request is None:
            return self.seal(message) if message in SEALS else self.token(message)
        parts = [f"version {request.version}"]
        if request.error_code is not None:
            parts.append(f"errorCode {request.error_code:#x}")
        if request.nego_token:
            parts.append(self.token(request.nego_token))
        if request.pub_key_auth:
            parts.append(f"pubKeyAuth {self.seal(request.pub_key_auth)}")
        if request.auth_info:
            parts.append(f"authInfo {self.seal(request.auth_info)}")
        if request.client_nonce:
            parts.append("nonce")
        return ", ".join(parts)

    def seal(self, sealed):
        term = SEALS.get(sealed)
        if term is None:
            return "bytes"
        what = self._plain.get(term.plaintext, "the list of mechanisms" if term.is_mic else "something")
        way = "c→s" if term.from_initiator else "s→c"
        return f"{'mic' if term.is_mic else 'seal'}({self._sessions.get(term.session, 'a session')}, {way}, {what})"

    def token(self, token):
        kind = spnego.token_kind(token)
        if kind is TokenKind.SPNEGO_INIT:
            read = NegTokenInit.decode(token)
            names = ", ".join(_MECHANISMS.get(each, "?") for each in read.mech_types)
            return f"offer({names}; {self.token(read.mech_token or b'')})"
        if kind is TokenKind.SPNEGO_RESP:
            return f"choice({'; '.join(self._choice(NegTokenResp.decode(token)))})"
        if kind is TokenKind.NTLM:
            return self._ntlm(token)
        if token in TICKETS:
            return f"ticket of {TICKETS[token][0]}"
        return "reply of the service" if token.startswith(b"<reply>") else "nothing" if not token else "bytes"

    def _choice(self, read):
        yield read.neg_state.name.lower().replace("_", " ") if read.neg_state is not None else "no state"
        if read.supported_mech:
            yield _MECHANISMS.get(read.supported_mech, "?")
        if read.response_token:
            yield self.token(read.response_token)
        if read.mech_list_mic:
            yield self.seal(read.mech_list_mic)

    @staticmethod
    def _ntlm(token):
        name = ("NEGOTIATE", "CHALLENGE", "AUTHENTICATE")[token[8] - 1]
        mark = hashlib.sha256(token).hexdigest()[:4]
        if name != "AUTHENTICATE":
            return f"{name} {mark}"
        return f"{name} {mark} of {decode_text(AuthenticateMessage.decode(token).user, 'user')}"


def _request(message):
    try:
        return TSRequest.decode(message)
    except CredSSPError:
        return None


def as_text(report):
    """The counterexample, a line for each message."""
    words = Words(report)
    lines = [f"{report.world}: {report.property}: {report.broken}"]
    for number, step in enumerate(report.steps, 1):
        lines.append(f"{number}. to {step.party}, {words.origin(step.message)}: {words.message(step.message)}")
        if step.answer:
            lines.append(f"   {step.party} ({step.after.state.name}): {words.message(step.answer)}")
        else:
            lines.append(f"   {step.party} ({step.after.state.name})")
    return "\n".join(lines)


def as_mermaid(report):
    """The counterexample as a sequence diagram."""
    words = Words(report)
    names = list(dict.fromkeys(step.party for step in report.steps))
    lines = ["sequenceDiagram", *(f"    participant {_word(name)} as {name}" for name in names[:1])]
    lines += ["    participant attacker", *(f"    participant {_word(name)} as {name}" for name in names[1:])]
    for step in report.steps:
        lines.append(f"    attacker->>{_word(step.party)}: {_safe(words.message(step.message))}")
        if step.answer:
            lines.append(f"    {_word(step.party)}->>attacker: {_safe(words.message(step.answer))}")
    last = _word(report.steps[-1].party) if report.steps else "attacker"
    return "\n".join([*lines, f"    note over {last}: {_safe(report.broken)}"])


def as_dot(report):
    """The counterexample as a graph: what each side took, one after the other."""
    words = Words(report)
    lines = ["digraph {", '  rankdir=LR; node [shape=box, fontname="sans-serif", fontsize=10];']
    for number, step in enumerate(report.steps):
        label = f"{step.party}\\n{step.after.state.name}"
        lines.append(f"  s{number} [label={_quoted(label)}];")
    for (number, _), (_, step) in itertools.pairwise(enumerate(report.steps)):
        lines.append(f"  s{number} -> s{number + 1} [label={_quoted(words.message(step.message))}];")
    lines.append(f"  broken [label={_quoted(report.broken)}, color=red]; s{len(report.steps) - 1} -> broken;")
    return "\n".join([*lines, "}"])


def _quoted(text):
    return '"' + text.replace('"', "'") + '"'


def _safe(text):
    """Mermaid takes a semicolon and a hash for its own."""
    return text.replace(";", ",").replace("#", "")


def _word(name):
    return name.replace(" ", "_")
