"""What is wrong with a peer or a logon, in the words of an administrator: the findings, and who applies them.

`CATALOGUE` has each kind of finding by an id that never changes. A program that collects facts gives them to one of the
judges, which do no I/O:

    findings = judge_server(facts, "host", now)     # a server that answers a probe (`Question`, `read_answer`)
    findings = judge_web(facts, "host", now)        # a service of WinRM
    findings = judge_client(facts)                  # a client that connects to a probe
    findings = explain(facts, now)                  # a logon

`acredssp probe` and `acredssp doctor` are such programs.
"""

from acredssp.diagnosis.catalogue import CATALOGUE, Fact, Finding, FindingKind, Severity, found
from acredssp.diagnosis.certificate import CertificateFacts
from acredssp.diagnosis.client import ClientFacts, judge_client
from acredssp.diagnosis.logon import LogonFacts, explain
from acredssp.diagnosis.questions import (
    Answer,
    ChallengeFacts,
    FirstToken,
    Question,
    missing_bytes,
    read_answer,
    read_first_token,
)
from acredssp.diagnosis.reach import Reach
from acredssp.diagnosis.server import (
    NegotiationAnswer,
    NoAnswer,
    ServerFacts,
    ShownCertificate,
    TLSAnswer,
    TLSOutcome,
    Unanswered,
    clock_difference,
    judge_certificate,
    judge_server,
)
from acredssp.diagnosis.web import WebFacts, judge_web

__all__ = [
    "CATALOGUE",
    "Answer",
    "CertificateFacts",
    "ChallengeFacts",
    "ClientFacts",
    "Fact",
    "Finding",
    "FindingKind",
    "FirstToken",
    "LogonFacts",
    "NegotiationAnswer",
    "NoAnswer",
    "Question",
    "Reach",
    "ServerFacts",
    "Severity",
    "ShownCertificate",
    "TLSAnswer",
    "TLSOutcome",
    "Unanswered",
    "WebFacts",
    "clock_difference",
    "explain",
    "found",
    "judge_certificate",
    "judge_client",
    "judge_server",
    "judge_web",
    "missing_bytes",
    "read_answer",
    "read_first_token",
]
