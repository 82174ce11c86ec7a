"""The engine: a CredSSP handshake without I/O. No asyncio, no sockets, no clock, no environment."""
