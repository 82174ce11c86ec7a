"""Handshakes in files: what `--record` writes and `acredssp replay` and `acredssp decode` read.

`Recording` is the value, with its JSON. docs/tools.md has the schema.
"""

from acredssp.recording.recording import MOST_BYTES, MOST_MESSAGES, Message, RecordedError, Recording, Sender

__all__ = ["MOST_BYTES", "MOST_MESSAGES", "Message", "RecordedError", "Recording", "Sender"]
