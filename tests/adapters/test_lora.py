"""The plain half of adapters: merging, files, and adapters that do not fit. No torch."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amused_lite.adapters.file import ForeignAdapterError, load_adapter, save_adapter
from amused_lite.adapters.lora import (
    TARGETS,
    Adapter,
    AdapterRecord,
    Pair,
    WeightedAdapter,
    base_hash,
    changed_weights,
    check_adapter,
    merge_into,
    merge_weight,
    parse_weighted_adapter,
    preset_of,
    shapes_of,
)
from amused_lite.config import PRESETS, ModelConfig
from amused_lite.files.safetensors import open_tensors, write_tensors

TINY = PRESETS["tiny"]
RECORD = AdapterRecord(
    name="blue lines",
    rank=4,
    alpha=2.0,
    targets=("attention",),
    preset="tiny",
    base_model="tiny",
    base_hash="0" * 64,
    trigger="in blueprint style",
    licence="CC0-1.0",
    recipe={"steps": 600, "learning_rate": 2e-3},
    thumbnail="iVBORw0KGgo=",
)


def random_adapter(seed: int = 0, config: ModelConfig = TINY, **changes: Any) -> Adapter:
    record = replace(RECORD, **changes)
    rng = np.random.default_rng(seed)
    pairs = {
        module: Pair(*(rng.normal(size=size).astype(np.float16).astype(np.float32) for size in sizes))
        for module, (outside, inside) in shapes_of(config, record.targets, record.kind).items()
        for sizes in [((record.rank, inside), (outside, record.rank))]
    }
    return Adapter(record, pairs)


NAME = "uvit.token_side.layers.0.self_attention.query.weight"


def weight(dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(9).normal(size=(192, 192)).astype(dtype)


def test_merging_adds_the_scaled_product() -> None:
    adapter, base = random_adapter(), weight()
    down, up = adapter.pairs[NAME.removesuffix(".weight")]
    expected = base.astype(np.float64) + 1.5 * 2.0 / 4 * up.astype(np.float64) @ down.astype(np.float64)
    # float32 sums of four products against float64: some units in the last place of values up to 20.
    np.testing.assert_allclose(merge_weight(NAME, base, [WeightedAdapter(adapter, 1.5)]), expected, atol=1e-5)


def test_two_adapters_mix_linearly_and_in_any_order() -> None:
    one, two, base = random_adapter(1), random_adapter(2), weight()
    both = merge_weight(NAME, base, [WeightedAdapter(one, 0.25), WeightedAdapter(two, -1.0)])
    apart = (
        base
        + 0.25 * (merge_weight(NAME, base, [WeightedAdapter(one)]) - base)
        - (merge_weight(NAME, base, [WeightedAdapter(two)]) - base)
    )
    np.testing.assert_allclose(both, apart, atol=1e-5)  # the same sums, rounded in another order
    np.testing.assert_allclose(
        both, merge_weight(NAME, base, [WeightedAdapter(two, -1.0), WeightedAdapter(one, 0.25)]), atol=1e-5
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_weight_zero_is_the_base_bit_for_bit(dtype: Any) -> None:
    weights = {NAME: weight(dtype), "vqgan.codebook": weight(dtype)}
    for chosen in ([], [WeightedAdapter(random_adapter(), 0.0)], [WeightedAdapter(random_adapter(rank=1), 0.0)] * 2):
        result = merge_into(weights, chosen)
        assert all(result[name] is weights[name] for name in weights)
        assert changed_weights(chosen) == []
    changed = merge_into(weights, [WeightedAdapter(random_adapter())])
    assert changed["vqgan.codebook"] is weights["vqgan.codebook"]
    assert changed[NAME].dtype == dtype and (changed[NAME] != weights[NAME]).mean() > 0.9


def test_float16_weights_are_rounded_once() -> None:
    adapters = [WeightedAdapter(random_adapter(seed), 0.1) for seed in range(3)]
    expected = merge_weight(NAME, weight(np.float16).astype(np.float32), adapters).astype(np.float16)
    np.testing.assert_array_equal(merge_weight(NAME, weight(np.float16), adapters), expected)


def test_amused_512_fits_five_megabytes_at_the_default_rank(tmp_path: Path) -> None:
    shapes = shapes_of(PRESETS["amused-512"], ("attention",))
    pairs = {
        module: Pair(np.zeros((8, inside)), np.zeros((outside, 8))) for module, (outside, inside) in shapes.items()
    }
    record = replace(RECORD, rank=8, preset="amused-512", thumbnail="A" * 20_000)
    path = save_adapter(Adapter(record, pairs), tmp_path / "x.safetensors")
    assert len(shapes) == 22 * 6
    assert path.stat().st_size < 5e6  # 132 modules of 8 * 2048 numbers of 2 bytes: 4.33 MB, and the header


def test_files_round_trip(tmp_path: Path) -> None:
    adapter = random_adapter()
    read = load_adapter(save_adapter(adapter, tmp_path / "a.safetensors"))
    assert read.record == adapter.record
    assert read.pairs.keys() == adapter.pairs.keys()
    for module, pair in adapter.pairs.items():  # the values were float16 to begin with
        for matrix, expected in zip(read.pairs[module], pair, strict=True):
            assert matrix.dtype == np.float32
            np.testing.assert_array_equal(matrix, expected)
    metadata = open_tensors(tmp_path / "a.safetensors").metadata
    assert metadata["modelspec.trigger_phrase"] == "in blueprint style"
    assert metadata["ss_network_dim"] == "4" and metadata["ss_base_model_version"] == "tiny"
    assert len(read.sha256) == 64


def test_values_that_float16_cannot_hold_are_refused(tmp_path: Path) -> None:
    adapter = random_adapter()
    adapter.pairs[NAME.removesuffix(".weight")].up[0, 0] = 1e6
    with pytest.raises(ValueError, match=r"query.up holds values that are not finite as float16; train with"):
        save_adapter(adapter, tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())
    save_adapter(adapter, tmp_path / "a.safetensors", np.float32)
    assert load_adapter(tmp_path / "a.safetensors").pairs[NAME.removesuffix(".weight")].up[0, 0] == 1e6


def rewrite(path: Path, arrays: dict[str, np.ndarray] | None = None, **changes: Any) -> None:
    """The same file with other arrays, and with other entries in its record; None takes one away."""
    file = open_tensors(path)
    record = {
        key: value for key, value in (json.loads(file.metadata["amused_lite"]) | changes).items() if value is not None
    }
    write_tensors(path, file.read() if arrays is None else arrays, {"amused_lite": json.dumps(record)})


LIES: list[tuple[dict[str, Any], str]] = [
    ({"format_version": 7}, "format_version is 7, this version reads 1; update amused-lite"),
    ({"format_version": None}, "format_version is null, this version reads 1; get"),
    ({"surprise": 1}, "'surprise' is not known"),
    ({"targets": 3}, "targets is 3, expected list"),
    ({"rank": None}, "rank is missing"),
    ({"rank": 0}, "rank is 0, expected int >= 1"),
    ({"rank": 10**9}, "rank is 1000000000, expected int <= 16384"),
    ({"name": 5}, "name is 5, expected str"),
    ({"alpha": float("nan")}, "alpha is NaN, expected float >= -1000000"),
    ({"kind": "magic"}, 'kind is "magic", expected one of low_rank, bottleneck'),
    ({"arrays": {"x.down": np.ones((4, 3), np.float32)}}, "'x.down' has no partner"),
    ({"arrays": {"x.side": np.ones((4, 3), np.float32)}}, "'x.side' has no partner"),
    ({"arrays": {"x.down": np.ones((4, 3)), "x.up": np.ones((3, 5))}}, "which do not meet"),
    ({"arrays": {"x.down": np.full((4, 3), np.nan), "x.up": np.ones((3, 4))}}, "not finite"),
    ({"arrays": {}}, "holds no matrices"),
]


@pytest.mark.parametrize(("change", "message"), LIES)
def test_files_that_lie(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = save_adapter(random_adapter(), tmp_path / "a.safetensors")
    arrays = change.pop("arrays", None) if "arrays" in change else None
    floats = {name: array.astype(np.float32) for name, array in arrays.items()} if arrays is not None else None
    rewrite(path, floats, **change)
    with pytest.raises(ValueError, match=message) as caught:
        load_adapter(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_files_of_other_programs_are_told_apart(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x.safetensors", {"a": np.ones(3, np.float32)}, {"format": "pt"})
    with pytest.raises(ForeignAdapterError, match="no adapter of amused-lite"):
        load_adapter(tmp_path / "x.safetensors")


def test_adapters_that_do_not_fit_are_refused() -> None:
    assert check_adapter(random_adapter(targets=TARGETS), TINY) == []
    for_512 = random_adapter(config=PRESETS["amused-512"], preset="amused-512", base_model="amused/amused-512")
    with pytest.raises(ValueError, match="made for amused-512, this model is tiny; open it with -m amused/amused-512"):
        check_adapter(for_512, TINY)
    # The two published models have the same shapes: only the name tells them apart.
    with pytest.raises(ValueError, match="made for amused-512, this model is amused-256"):
        check_adapter(for_512, PRESETS["amused-256"])
    narrow = replace(TINY, uvit=replace(TINY.uvit, hidden_size=96))
    with pytest.raises(ValueError, match=r"has other shapes: .*got \(96, 96\), expected \(192, 192\)\).* and 33 more"):
        check_adapter(random_adapter(config=narrow), TINY)
    with pytest.raises(ValueError, match=r"modules that this model has not: .*layers.6"):
        check_adapter(random_adapter(config=replace_layers(TINY, 7)), TINY)


def replace_layers(config: ModelConfig, layers: int) -> ModelConfig:
    return replace(config, uvit=replace(config.uvit, layers=layers))


def test_other_weights_of_the_same_model_are_mentioned() -> None:
    (remark,) = check_adapter(random_adapter(), TINY, base="f" * 64)
    assert "trained on other weights of tiny (0000000000, this model has ffffffffff)" in remark
    assert check_adapter(random_adapter(), TINY, base="0" * 64) == []


def test_the_base_s_hash_outlives_its_storage() -> None:
    rng = np.random.default_rng(0)
    norms = {
        f"uvit.token_side.{n}_norm.weight": rng.normal(size=20).astype(np.float32)
        for n in ("embedding", "in", "out", "head")
    }
    assert base_hash(norms) == base_hash({name: array.astype(np.float16) for name, array in norms.items()})
    other = {name: array.copy() for name, array in norms.items()}
    other["uvit.token_side.head_norm.weight"][3] += 0.01
    assert base_hash(norms) != base_hash(other)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.safetensors", ("a.safetensors", 1.0)),
        ("a.safetensors:0.5", ("a.safetensors", 0.5)),
        ("a.safetensors:-1", ("a.safetensors", -1.0)),
        ("C:\\styles\\a.safetensors", ("C:\\styles\\a.safetensors", 1.0)),
        ("C:\\styles\\a.safetensors:2", ("C:\\styles\\a.safetensors", 2.0)),
        ("12:00.safetensors", ("12:00.safetensors", 1.0)),
    ],
)
def test_choices_are_read(text: str, expected: tuple[str, float]) -> None:
    assert parse_weighted_adapter(text) == expected


@pytest.mark.parametrize("text", ["a:2.1", "a:-1.5", "a:nan", "a:inf"])
def test_weights_out_of_range_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"adapter weight .* of a is out of range; choose -1 to 2"):
        parse_weighted_adapter(text)


def test_presets_are_recognised() -> None:
    assert [preset_of(PRESETS[name]) for name in PRESETS] == list(PRESETS)
    assert preset_of(replace_layers(TINY, 2)) == "custom"
    with pytest.raises(ValueError, match="target 'hair' is unknown; choose from attention"):
        shapes_of(TINY, ("hair",))
    with pytest.raises(ValueError, match="needs a target"):
        shapes_of(TINY, ())
    with pytest.raises(ValueError, match="bottleneck adapter has the target attention only"):
        shapes_of(TINY, ("text",), "bottleneck")
