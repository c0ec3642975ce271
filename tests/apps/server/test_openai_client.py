"""OpenAI's own Python client, as it comes, against a real server."""

import base64
import urllib.request
from collections.abc import Iterator
from io import BytesIO

import numpy as np
import openai
import pytest
from PIL import Image
from serving import Server, alone, half_mask, is_alone, png, recipe_in


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "amused-lite"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("dall-e-3")


def test_a_picture_is_the_one_made_alone(client: openai.OpenAI) -> None:
    answer = client.images.generate(
        prompt="a red cup", n=2, model="tiny", size="512x512", extra_body={"seed": 7, "steps": 2}
    )
    assert answer.data is not None and len(answer.data) == 2
    for number, one in enumerate(answer.data):
        assert is_alone(one.b64_json or "", "a red cup", 7, 2, number)
        assert one.model_extra == {"seed": 7, "picture": number}


def test_every_plain_field_arrives(client: openai.OpenAI) -> None:
    plain = {"steps": 3, "guidance_scale": 4.5, "negative_prompt": "red", "order": "halton", "top_k": 5, "seed": 1}
    answer = client.images.generate(prompt="a cup", extra_body=plain)
    recipe = recipe_in(answer.data[0].b64_json)  # type: ignore[index, arg-type]
    assert {name: getattr(recipe, name) for name in plain} == plain


def test_without_a_seed_it_is_random_and_told(client: openai.OpenAI) -> None:
    seeds = set()
    for _ in range(2):
        (one,) = client.images.generate(prompt="a cup", extra_body={"steps": 1}).data or []
        assert recipe_in(one.b64_json or "").seed == one.model_extra["seed"]  # type: ignore[index]
        seeds.add(one.model_extra["seed"])  # type: ignore[index]
    assert len(seeds) == 2


def test_as_an_address_the_picture_can_be_fetched(client: openai.OpenAI) -> None:
    answer = client.images.generate(prompt="a red cup", response_format="url", extra_body={"seed": 7, "steps": 2})
    url = answer.data[0].url  # type: ignore[index]
    assert url is not None and url.startswith(str(client.base_url).removesuffix("v1/"))
    with urllib.request.urlopen(url) as reply:
        assert reply.headers["content-type"] == "image/png"
        assert is_alone(reply.read(), "a red cup", 7, 2)


@pytest.mark.parametrize("form", ["jpeg", "webp"])
def test_other_formats(client: openai.OpenAI, form: str) -> None:
    answer = client.images.generate(
        prompt="a cup",
        output_format=form,
        output_compression=80,
        extra_body={"steps": 1},  # type: ignore[arg-type]
    )
    with Image.open(BytesIO(base64.b64decode(answer.data[0].b64_json))) as image:  # type: ignore[index, arg-type]
        assert image.format == form.upper() and image.size == (512, 512)


def test_streamed_it_shows_previews_and_then_the_picture(client: openai.OpenAI) -> None:
    stream = client.images.generate(
        prompt="a red cup", stream=True, partial_images=3, extra_body={"seed": 7, "steps": 8}
    )
    events = list(stream)
    assert [event.type for event in events] == ["image_generation.partial_image"] * 3 + ["image_generation.completed"]
    previews = {event.b64_json for event in events[:-1]}
    assert len(previews) == 3
    assert is_alone(events[-1].b64_json, "a red cup", 7, 8)


def test_edit_fills_what_is_see_through(client: openai.OpenAI) -> None:
    source = alone("a red cup", 7, 2).image
    mask = Image.new("RGBA", source.size, "black")
    mask.putalpha(Image.fromarray(255 - np.asarray(half_mask())))
    answer = client.images.edit(
        image=("../../name.png", png(source)), mask=png(mask), prompt="a blue cup", extra_body={"seed": 3, "steps": 2}
    )
    data = base64.b64decode(answer.data[0].b64_json)  # type: ignore[index, arg-type]
    recipe = recipe_in(data)
    assert recipe.edit is not None and recipe.edit.operation == "inpaint"
    assert (recipe.seed, recipe.steps, recipe.prompt) == (3, 2, "a blue cup")
    with Image.open(BytesIO(data)) as image:
        kept, drawn = np.asarray(image)[:, 256:], np.asarray(image)[:, :256]
    assert (kept == np.asarray(source)[:, 256:]).all()
    assert (drawn != np.asarray(source)[:, :256]).any()


def test_edit_without_a_mask_moves_the_picture_to_the_prompt(client: openai.OpenAI) -> None:
    source = png(alone("a red cup", 7, 2).image)
    for extra, operation in (({}, "edit"), ({"strength": 0.5}, "vary"), ({"share": 0.3}, "edit")):
        answer = client.images.edit(image=[source], prompt="a blue cup", extra_body={"steps": 2, **extra})
        recipe = recipe_in(answer.data[0].b64_json)  # type: ignore[index, arg-type]
        assert recipe.edit is not None and recipe.edit.operation == operation
        assert set(extra.items()) <= set((name, recipe.edit.settings.get(name)) for name in extra)


def test_variations_know_the_prompt_from_the_file(client: openai.OpenAI) -> None:
    from amused_lite.files.png import encode_png

    made = alone("a red cup", 7, 2)
    with_recipe = bytes(encode_png(made.image, made.recipe))
    answer = client.images.create_variation(image=with_recipe, extra_body={"steps": 2})
    assert recipe_in(answer.data[0].b64_json).prompt == "a red cup"  # type: ignore[index, arg-type]
    with pytest.raises(openai.BadRequestError, match="no prompt of its own"):
        client.images.create_variation(image=png(made.image))


@pytest.mark.parametrize("name", ["gpt-image-1", "dall-e-3", "gpt-image-1-mini"])
def test_programs_that_name_openai_s_models_get_a_picture_and_a_warning(client: openai.OpenAI, name: str) -> None:
    answer = client.images.generate(prompt="a red cup", model=name, extra_body={"seed": 7, "steps": 2})
    assert is_alone(answer.data[0].b64_json or "", "a red cup", 7, 2)  # type: ignore[index]
    (warning,) = answer.model_extra["warnings"]  # type: ignore[index]
    assert name in warning and "tiny" in warning
    (done,) = client.images.generate(prompt="a cup", model=name, stream=True, extra_body={"steps": 1})
    assert name in done.model_extra["warnings"][0]  # type: ignore[index]


def test_usage_counts_tokens(client: openai.OpenAI) -> None:
    answer = client.images.generate(prompt="a cup", n=2, extra_body={"steps": 1})
    usage = answer.usage
    assert usage is not None and usage.output_tokens == 2 * alone("a red cup", 7, 2).recipe.tokens.size
    assert 2 <= usage.input_tokens == usage.input_tokens_details.text_tokens <= 5  # letters at most
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    edited = client.images.edit(image=png(alone("a red cup", 7, 2).image), prompt="a cup", extra_body={"steps": 1})
    assert edited.usage is not None and edited.usage.input_tokens_details.image_tokens == usage.output_tokens / 2
    (done,) = client.images.generate(prompt="a cup", stream=True, extra_body={"steps": 1})
    assert done.usage.output_tokens == usage.output_tokens / 2  # type: ignore[union-attr]


def test_edits_have_the_size_that_was_asked_for_or_none(client: openai.OpenAI) -> None:
    source = png(alone("a red cup", 7, 2).image)
    answer = client.images.edit(image=source, prompt="a cup", size="512x512", extra_body={"steps": 1})
    assert answer.size == "512x512"
    for size in ("banana", "1024x1024"):
        with pytest.raises(openai.BadRequestError) as error:
            client.images.edit(image=source, prompt="a cup", size=size, extra_body={"steps": 1})  # type: ignore[arg-type]
        assert error.value.param == "size"
    small = png(Image.new("RGB", (96, 64), "red"))
    mask = png(half_mask((96, 64)))
    filled = client.images.edit(image=small, mask=mask, prompt="a cup", size="96x64", extra_body={"steps": 1})  # type: ignore[arg-type]
    assert filled.size == "96x64"


@pytest.mark.parametrize(
    ("fields", "said", "param", "code"),
    [
        ({"prompt": ""}, "empty", "prompt", "invalid_value"),
        ({"prompt": "x" * 10**6}, "1000000 characters", "prompt", "invalid_value"),
        ({"prompt": "a", "n": 11}, "n must be", "n", "invalid_value"),
        ({"prompt": "a", "size": "1024x1024"}, "512x512", "size", "invalid_value"),
        ({"prompt": "a", "size": "huge"}, "size", "size", "invalid_value"),
        ({"prompt": "a", "model": "../../etc"}, "choose one of tiny", "model", "model_not_found"),
        ({"prompt": "a", "background": "transparent"}, "opaque", "background", "invalid_value"),
        ({"prompt": "a", "background": "plaid"}, "background", "background", "invalid_value"),
        ({"prompt": "a", "extra_body": {"steps": -1}}, "steps", "steps", "invalid_value"),
        ({"prompt": "a", "extra_body": {"steps": "many"}}, "steps", "steps", "invalid_value"),
        ({"prompt": "a", "extra_body": {"seed": 2**70}}, "seed", "seed", "invalid_value"),
        ({"prompt": None}, "prompt", "prompt", "invalid_value"),
    ],
)
def test_errors_come_in_openai_s_form(client: openai.OpenAI, fields: dict, said: str, param: str, code: str) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.images.generate(**fields)
    body = error.value.body
    assert isinstance(body, dict) and set(body) == {"message", "type", "param", "code"}
    assert said in body["message"] and len(body["message"]) < 300
    assert body["type"] == "invalid_request_error"
    assert (error.value.param, error.value.code) == (param, code)
    assert error.value.request_id and error.value.request_id.startswith("req_")
