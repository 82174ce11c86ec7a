"""Our clients over HTTP, each as one function that sends bodies over one client and returns the answers' bodies."""

import httpx
import httpx2
from support.http_toy import TRUSTING

from acredssp.http.aiohttp import CredSSPSession
from acredssp.http.httpx import CredSSPTransport
from acredssp.http.httpx2 import CredSSPTransport as CredSSPTransport2


async def send_by_httpx(config, url, bodies, library=httpx, transport=CredSSPTransport):
    made = transport(config, ssl_context=TRUSTING)
    async with library.AsyncClient(transport=made, timeout=60, trust_env=False) as client:
        return [(await client.post(url, content=body)).content for body in bodies]


async def send_by_httpx2(config, url, bodies):
    return await send_by_httpx(config, url, bodies, httpx2, CredSSPTransport2)


async def send_by_aiohttp(config, url, bodies):
    answers = []
    async with CredSSPSession(config, ssl_context=TRUSTING) as session:
        for body in bodies:
            async with session.post(url, data=body) as answer:
                answers.append(await answer.read())
    return answers


SENDERS = {"httpx": send_by_httpx, "httpx2": send_by_httpx2, "aiohttp": send_by_aiohttp}
