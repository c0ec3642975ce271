"""The protocol's own client against a real server."""

from typing import Any

import pytest
from assistant import with_session
from mcp import ClientSession
from serving import Server, Start, is_alone


def test_an_assistant_draws_and_sees_how_it_goes(server: Server) -> None:
    told: list[tuple[float, float | None]] = []

    async def talk(session: ClientSession) -> Any:
        async def tell(done: float, total: float | None, _: str | None) -> None:
            told.append((done, total))

        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
        assert set(tools) == {"list_models", "create_picture"}
        assert tools["create_picture"].inputSchema["required"] == ["prompt"]
        models = await session.call_tool("list_models")
        body = {"prompt": "a red cup", "seed": 7, "steps": 3, "model": models.content[0].text}
        return await session.call_tool("create_picture", body, progress_callback=tell)

    picture, words = with_session(server.url, talk).content
    assert picture.mimeType == "image/png" and is_alone(picture.data, "a red cup", 7, 3)
    assert "seed 7, 3 steps" in words.text
    assert told and told[-1] == (3, 3) and [done for done, _ in told] == sorted(done for done, _ in told)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"prompt": "   "}, "prompt"),
        ({"prompt": "a cup", "steps": 0}, "greater than or equal to 1"),
        ({"prompt": "a cup", "model": "/etc/passwd"}, "is not offered here"),
        ({"prompt": "a cup" * 5000}, "5000"),
        ({}, "Field required"),
    ],
)
def test_what_cannot_be_drawn_is_said(server: Server, body: dict[str, Any], message: str) -> None:
    result = with_session(server.url, lambda session: session.call_tool("create_picture", body))
    assert result.isError and message in result.content[0].text


def test_the_token_counts_here_as_well(start: Start) -> None:
    guarded = start("--token", "a-long-enough-secret")
    with pytest.raises(BaseExceptionGroup) as refused:
        with_session(guarded.url, lambda session: session.list_tools())
    assert refused.value.subgroup(lambda error: "401" in str(error)) is not None
    guarded.process.terminate()
