"""What the small servers and relays of tests share: they listen, and their connections end with them."""

import asyncio


class Listener:
    """Gives each connection to `serve(reader, writer)` until it is left.

    Attributes:
        tasks: Those that serve now.
    """

    def __init__(self):
        self.tasks = set()

    async def listen(self, port=0, **options):
        """Listen at 127.0.0.1, and return the port."""
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", port, **options)
        return self.server.sockets[0].getsockname()[1]

    async def __aexit__(self, *_):
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.server.wait_closed()

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self.tasks.add(task)
        try:
            await self.serve(reader, writer)
        finally:
            writer.transport.abort()
            self.tasks.discard(task)
