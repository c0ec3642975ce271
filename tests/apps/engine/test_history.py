"""The gallery: ordinary files that say everything, an index that repeats it, names that stay in the folder."""

import json
import os
import shutil
import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from amused_lite.apps.engine import history as histories
from amused_lite.apps.engine.history import INDEX, History
from PIL import Image

from amused_lite.files.png import read_recipe
from amused_lite.pipeline import AmusedPipeline, Picture


@pytest.fixture(scope="module")
def made() -> Picture:
    return AmusedPipeline.open("tiny", threads=1).generate("a red cup", seed=5, steps=1)


def of(picture: Picture, **changes: object) -> Picture:
    return replace(picture, recipe=replace(picture.recipe, **changes))


@pytest.fixture
def history(tmp_path: Path, made: Picture) -> History:
    history = History(tmp_path / "gallery")
    for prompt, seed in (("a red cup", 5), ("a blue boat at night", 6), ("Ünïcode & ../../etc", 7)):
        history.add(of(made, prompt=prompt, seed=seed))
    return history


def test_a_picture_comes_back_whole(history: History, made: Picture) -> None:
    (entry,) = history.search("boat night")
    assert (entry.prompt, entry.seed, entry.operation) == ("a blue boat at night", 6, "generate")
    recipe = history.recipe(entry.name)
    assert np.array_equal(recipe.tokens, made.recipe.tokens) and recipe.steps == 1
    source = history.open(entry.name)
    assert source.image.tobytes() == made.image.tobytes() and source.recipe is not None
    assert read_recipe(history.path(entry.name)).seed == 6  # an ordinary file for everyone else


def test_search_finds_all_words_anywhere_latest_first(history: History) -> None:
    assert len(history.search()) == 3
    assert history.search("RED tiny")[0].prompt == "a red cup"
    assert history.search("7")[0].prompt == "Ünïcode & ../../etc"
    assert history.search("cup boat") == []
    times = [entry.created for entry in history.search()]
    assert times == sorted(times, reverse=True)
    assert history.search(limit=1, start=1) == history.search()[1:2]


def test_names_are_safe_whatever_the_prompt(history: History, made: Picture) -> None:
    for prompt in ("../../../x", "con", "a" * 3000, '\n/\\:*?"<>|', "🎈" * 50, "..."):
        path = history.add(of(made, prompt=prompt))
        assert path is not None and path.parent == history.folder and len(path.name.encode()) < 200
        assert history.path(path.name) == path
    assert {path.parent for path in history.folder.parent.rglob("*.png")} == {history.folder}


@pytest.mark.parametrize(
    "name",
    ["../secret.png", "..", "", "/etc/passwd", "a\\b.png", INDEX, ".hidden.png", "nul.png", "a/b.png", "x\0.png"],
)
def test_other_names_reach_nothing(history: History, name: str) -> None:
    (history.folder.parent / "secret.png").write_bytes(b"secret")
    for act in (history.path, history.open, history.recipe, history.delete):
        with pytest.raises(FileNotFoundError):
            act(name)
    assert (history.folder.parent / "secret.png").exists()


def test_a_link_out_of_the_folder_is_no_picture(history: History, made: Picture) -> None:
    outside = history.folder.parent / "outside.png"
    made.save(outside)
    (history.folder / "link.png").symlink_to(outside)
    assert "link.png" not in [entry.name for entry in History(history.folder).search()]
    (entry,) = history.search("cup")
    (history.folder / entry.name).unlink()
    (history.folder / entry.name).symlink_to(outside)  # in the place of one that was read
    with pytest.raises(FileNotFoundError):
        history.path(entry.name)


def test_delete_removes_file_and_entry_for_good(history: History) -> None:
    (entry,) = history.search("boat")
    history.delete(entry.name)
    assert not (history.folder / entry.name).exists() and history.search("boat") == []
    assert len(History(history.folder)) == 2


def test_a_deletion_is_undone_in_its_old_place(history: History) -> None:
    before, (entry,) = history.search(), history.search("boat")
    data = (history.folder / entry.name).read_bytes()
    deleted = history.delete(entry.name)
    assert history.put_back(deleted).read_bytes() == data
    assert history.search() == History(history.folder).search() == before
    (history.folder / "other.png").write_bytes(b"x")
    for changes in ({"name": "../other.png"}, {"name": INDEX}, {"data": b"x"}):
        with pytest.raises(ValueError, match="picture"):
            history.put_back(replace(deleted, **changes))
    assert history.put_back(deleted).name == f"{Path(entry.name).stem}-2.png"  # nothing is written over


def test_an_archive_holds_what_is_found_up_to_a_bound(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    (entry,) = history.search("cup")
    pieces = list(history.archive())
    assert len(pieces) == 4 and max(map(len, pieces)) < 2 * entry.size  # no more than a picture is in memory at once
    with zipfile.ZipFile(BytesIO(b"".join(pieces))) as file:
        assert file.testzip() is None and sorted(file.namelist()) == sorted(one.name for one in history.search())
        assert file.read(entry.name) == history.path(entry.name).read_bytes()
    with zipfile.ZipFile(BytesIO(b"".join(history.archive("cup")))) as file:
        assert file.namelist() == [entry.name]
    monkeypatch.setattr(histories, "_MOST_ARCHIVED_BYTES", 2 * max(one.size for one in history.search()))
    assert history.archived() == history.search(limit=2)


@pytest.mark.parametrize("damage", ["gone", "garbage", "lies"])
def test_the_index_is_made_anew_from_the_pictures(history: History, damage: str) -> None:
    index, before = history.folder / INDEX, history.search()
    if damage == "gone":
        index.unlink()
    elif damage == "garbage":
        index.write_bytes(b"\xff\x00{]" * 1000)
    else:
        lines = [json.loads(line) for line in index.read_text().splitlines()]
        for values in lines:
            values |= {"name": "../" + values["name"]}
        index.write_text("".join(json.dumps(values) + "\n" for values in lines))
    again = History(history.folder)
    assert again.search() == before
    assert History(history.folder).refresh() == 0  # and was written: nothing is read twice


def test_an_index_that_leads_elsewhere_is_replaced(tmp_path: Path, made: Picture) -> None:
    """A folder from somebody else, with links and a pipe in the places that are written."""
    for name in (INDEX, f".{INDEX}.part"):
        for kind in ("link", "pipe"):
            folder, outside = tmp_path / f"{name}-{kind}", tmp_path / f"{name}-{kind}-outside"
            folder.mkdir()
            outside.write_text("untouched")
            if kind == "link":
                (folder / name).symlink_to(outside)
            else:
                os.mkfifo(folder / name)
            history = History(folder)
            added = history.add(made)
            history.add(made)
            history.delete(added.name)
            assert outside.read_text() == "untouched"
            assert [entry.name for entry in History(folder).search()] == [entry.name for entry in history.search()]


@pytest.mark.parametrize("field", ["prompt", "seed", "operation", "adapters", "created", "model"])
def test_a_line_of_the_wrong_types_is_read_again_from_its_picture(history: History, field: str) -> None:
    index, before = history.folder / INDEX, history.search()
    lines = [json.loads(line) for line in index.read_text().splitlines()]
    index.write_text("".join(json.dumps(values | {field: {"<b>": 1}}) + "\n" for values in lines))
    assert History(history.folder).search() == before


def test_files_may_come_and_go_by_hand(history: History, made: Picture) -> None:
    (entry,) = history.search("cup")
    (history.folder / entry.name).unlink()
    of(made, prompt="a guest").save(history.folder / "guest.png")
    Image.new("RGB", (16, 16)).save(history.folder / "stranger.png")
    (history.folder / "broken.png").write_bytes(b"\x89PNG")
    assert history.refresh() >= 1
    assert {e.prompt for e in history.search()} == {"a guest", "a blue boat at night", "Ünïcode & ../../etc"}


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError):
        History(tmp_path / "file")


def test_it_can_be_carried_elsewhere(history: History, tmp_path: Path) -> None:
    shutil.copytree(history.folder, tmp_path / "other")
    for path in (tmp_path / "other").glob("*.png"):
        os.utime(path, (1, 1))
    assert {e.prompt for e in History(tmp_path / "other").search()} == {e.prompt for e in history.search()}
