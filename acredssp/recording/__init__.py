"""Handshakes in files: what `--record` writes and `acredssp replay` and `acredssp decode` read.

`Recording` is the value, with its JSON; docs/tools.md has the schema. `RecordingCarriage` records what a carriage
carries, `RecordFolder` keeps the records of several processes, `without_secrets` and `to_pcapng` make what can be given
away, and `replay` runs the engine against a record.
"""

from acredssp.recording.folder import MOST_FILES, MOST_FOLDER_BYTES, RecordFolder
from acredssp.recording.pcapng import to_pcapng
from acredssp.recording.recorder import RecordingCarriage
from acredssp.recording.recording import (
    MOST_BYTES,
    MOST_MESSAGES,
    Flight,
    Message,
    RecordedError,
    Recording,
    Sender,
)
from acredssp.recording.redaction import without_secrets
from acredssp.recording.replay import Agreement, Replay, ReplayStep, replay

__all__ = [
    "MOST_BYTES",
    "MOST_FILES",
    "MOST_FOLDER_BYTES",
    "MOST_MESSAGES",
    "Agreement",
    "Flight",
    "Message",
    "RecordFolder",
    "RecordedError",
    "Recording",
    "RecordingCarriage",
    "Replay",
    "ReplayStep",
    "Sender",
    "replay",
    "to_pcapng",
    "without_secrets",
]
