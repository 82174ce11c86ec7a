"""The engine: a CredSSP handshake without I/O. It uses no asyncio, no sockets, no clock and no environment."""
