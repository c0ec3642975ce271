"""webuiapi, a client that others wrote for A1111's web interface, as it comes, against a real server."""

import threading
import time
from urllib.parse import urlsplit

import numpy as np
import pytest
import webuiapi
from serving import Server, Start, alone, half_mask, is_alone, own_guidance, recipe_in


@pytest.fixture(scope="module")
def client(server: Server) -> webuiapi.WebUIApi:
    place = urlsplit(server.url)
    return webuiapi.WebUIApi(host=place.hostname, port=place.port, steps=2)


def test_txt2img_counts_the_seed_up(client: webuiapi.WebUIApi) -> None:
    result = client.txt2img(prompt="a red cup", seed=7, batch_size=2, cfg_scale=own_guidance())
    assert result.info["all_seeds"] == [7, 8] and result.info["seed"] == 7
    assert "Steps: 2" in result.info["infotexts"][0]
    for seed, data in zip((7, 8), result.json["images"], strict=True):
        assert is_alone(data, "a red cup", seed, 2)
    assert result.image.size == (512, 512) and result.parameters["prompt"] == "a red cup"


def test_img2img_varies(client: webuiapi.WebUIApi) -> None:
    source = alone("a red cup", 7, 2).image
    result = client.img2img(
        images=[source], prompt="a blue cup", seed=1, denoising_strength=0.5, cfg_scale=own_guidance()
    )
    assert result.image.size == source.size
    assert np.asarray(result.image).tobytes() != source.tobytes()


def test_img2img_with_a_mask_draws_the_white_part(client: webuiapi.WebUIApi) -> None:
    source = alone("a red cup", 7, 2).image
    before = np.asarray(source)
    for invert in (0, 1):
        result = client.img2img(
            images=[source], mask_image=half_mask(), prompt="a blue cup", seed=1, inpainting_mask_invert=invert
        )
        after = np.asarray(result.image)
        left, right = (after != before)[:, :256].any(), (after != before)[:, 256:].any()
        assert (left, right) == ((True, False) if invert == 0 else (False, True))


def test_what_clients_read_first(client: webuiapi.WebUIApi) -> None:
    assert client.util_get_model_names() == ["tiny"] and client.util_get_current_model() == "tiny"
    assert client.util_get_sampler_names() == ["amused"]
    assert client.get_loras() == [] and client.get_upscalers() == [] and client.get_sd_vae() == []
    assert client.get_embeddings() == {"loaded": {}, "skipped": {}}
    assert client.get_schedulers() and client.get_cmd_flags() == {"api": True}
    client.util_set_model("tiny")
    client.util_wait_for_ready(check_interval=0.1)


def test_progress_and_interrupt(client: webuiapi.WebUIApi) -> None:
    assert client.get_progress()["progress"] == 0
    done: list[webuiapi.WebUIApiResult] = []
    thread = threading.Thread(target=lambda: done.append(client.txt2img(prompt="a red cup", seed=7, steps=400)))
    thread.start()
    seen = {}
    while not seen.get("current_image"):
        time.sleep(0.05)
        seen = client.get_progress()
    assert 0 < seen["progress"] < 1 and seen["state"]["sampling_steps"] == 400
    client.interrupt()
    thread.join(60)
    assert done[0].image.size == (512, 512)  # its sampled tokens, finished
    assert client.get_progress()["state"]["job_count"] == 0


def test_interrupt_leaves_other_clients_alone(client: webuiapi.WebUIApi, server: Server) -> None:
    import requests

    job = requests.post(f"{server.url}/jobs", json={"prompt": "a cup", "steps": 40}).json()
    while requests.get(f"{server.url}/jobs/{job['id']}").json()["step"] < 1:
        time.sleep(0.02)
    client.interrupt()
    seen = requests.get(f"{server.url}/jobs/{job['id']}").json()
    assert seen["state"] == "running" and not seen["stopped"]
    requests.delete(f"{server.url}/jobs/{job['id']}")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"prompt": ""}, "empty"),
        ({"prompt": "a", "width": 1024}, "512x512"),
        ({"prompt": "a <lora:gone:1>"}, "not offered"),
        ({"prompt": "a", "batch_size": 0}, "batch_size"),
        ({"prompt": "a", "batch_size": 1000, "n_iter": 1000}, "count"),
    ],
)
def test_errors_come_in_a1111_s_form(client: webuiapi.WebUIApi, fields: dict, said: str) -> None:
    with pytest.raises(RuntimeError) as error:
        client.txt2img(**fields)
    status, text = error.value.args
    assert status in (400, 422) and said in text and '"detail"' in text


def test_a_style_in_the_prompt_counts(start: Start, tmp_path) -> None:
    """An adapter of random matrices changes the picture, and is named in its recipe."""
    from amused_lite.adapters.file import save_adapter
    from amused_lite.adapters.lora import Adapter, AdapterRecord, Pair, target_shapes
    from amused_lite.bundle import open_bundle
    from amused_lite.runtimes.open import find_model

    shapes = target_shapes(open_bundle(find_model("tiny")).config, "attention")
    chance = np.random.default_rng(0)
    pairs = {
        module: Pair(
            chance.normal(0, 0.1, (2, inside)).astype(np.float32), chance.normal(0, 0.1, (out, 2)).astype(np.float32)
        )
        for module, (out, inside) in shapes.items()
    }
    record = AdapterRecord("wild", 2, 2.0, ("attention",), "tiny", "tiny", "")
    save_adapter(Adapter(record, pairs), tmp_path / "wild.safetensors")
    server = start("--adapter", str(tmp_path / "wild.safetensors"))
    place = urlsplit(server.url)
    client = webuiapi.WebUIApi(host=place.hostname, port=place.port, steps=2)
    assert [lora["name"] for lora in client.get_loras()] == ["wild"]
    plain = recipe_in(client.txt2img(prompt="a red cup", seed=7, cfg_scale=own_guidance()).json["images"][0])
    styled = recipe_in(
        client.txt2img(prompt="a red cup <lora:wild:0.5>", seed=7, cfg_scale=own_guidance()).json["images"][0]
    )
    assert plain.adapters == () and styled.adapters[0].startswith("wild:0.5")
    assert not np.array_equal(plain.tokens, styled.tokens)
    server.process.terminate()
