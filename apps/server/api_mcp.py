"""The Model Context Protocol at /mcp: an assistant on this machine draws with a tool, on the engine of all others."""

from typing import Annotated, Any

from mcp.server.fastmcp import Context, FastMCP, Image
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import ToolAnnotations
from pydantic import Field

from amused_lite.sampling.settings import SETTINGS

from ..engine.engine import Engine
from .responses import changes, encoded, submit

_ABOUT = """Draws pictures from words on this machine, offline. The first model that list_models names is the default;
the bundled one, tiny, knows simple scenes only: "a red balloon above a blue house in a meadow"."""

Seed = Annotated[int | None, Field(description="repeats a picture; left out: random")]
_STEPS, _GUIDANCE = SETTINGS["steps"], SETTINGS["guidance_scale"]
Steps = Annotated[int | None, Field(ge=_STEPS.limits.ge, description=_STEPS.description)]
Guidance = Annotated[float | None, Field(description=_GUIDANCE.description)]


def make_mcp(engine: Engine) -> FastMCP:
    """The protocol's server; its lifespan is `session_manager.run()`."""
    # Every call stands alone, so that clients may come and go. Who may ask is for `access.Guard` to say.
    security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    server = FastMCP("amused-lite", _ABOUT, stateless_http=True, transport_security=security, log_level="ERROR")

    @server.tool(annotations=ToolAnnotations(readOnlyHint=True, openWorldHint=False))
    def list_models() -> list[str]:
        """The models that create_picture may use."""
        return list(engine.model_cache.models)

    @server.tool(annotations=ToolAnnotations(destructiveHint=False, openWorldHint=False), structured_output=False)
    async def create_picture(
        prompt: Annotated[str, Field(description="what to draw")],
        context: Context,
        negative_prompt: Annotated[str, Field(description="what to keep away from")] = "",
        seed: Seed = None,
        steps: Steps = None,
        guidance_scale: Guidance = None,
        model: Annotated[str | None, Field(description="a name out of list_models")] = None,
    ) -> list[Any]:
        """Draw one picture from words. Returns it as a PNG, with the seed that draws it again."""
        given = {"steps": steps, "guidance_scale": guidance_scale}
        options = {name: value for name, value in given.items() if value is not None}
        fields = {"prompt": prompt, "negative_prompt": negative_prompt, "seed": seed, "model": model}
        http = context.request_context.request
        assert http is not None  # only other transports have none
        job = submit(http, engine, fields | {"options": options}, "mcp")
        try:
            async for now in changes(job):
                if now is not None and now.steps:
                    await context.report_progress(now.step, now.steps)
        finally:
            engine.cancel(job, "its client left")
        (result,) = job.outcome()
        engine.forget(job)
        recipe = result.picture.recipe
        said = f"{prompt} (seed {recipe.seed}, {recipe.steps} steps)"
        return [Image(data=await encoded(result), format="png"), ". ".join([said, *job.peek().remarks])]

    return server
