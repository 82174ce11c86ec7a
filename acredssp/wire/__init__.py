"""Bytes to frozen values and back: no state, no I/O, no policy.

Whatever a peer sends, a decoder answers with a value or raises a `RemoteProtocolError` that names field and
offset.
"""
