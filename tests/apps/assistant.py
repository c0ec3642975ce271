"""A session of the Model Context Protocol's own client."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client


def with_session(url: str, talk: Callable[[ClientSession], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with streamable_http_client(f"{url}/mcp") as streams, ClientSession(*streams[:2]) as session:
            await session.initialize()
            return await talk(session)

    return asyncio.run(run())
