"""An asyncio CredSSP handshake engine, client and server."""
