"""What a model knows: as its world says it, in the file that ships, and in one line about a sentence."""

import json
from pathlib import Path
from random import Random

import pytest

from amused_lite.cli import main
from amused_lite.pipeline import AmusedPipeline
from amused_lite.runtimes.open import BUNDLED, find_model
from amused_lite.vocabulary import OFFERED, THINGS, WORDS, Vocabulary


@pytest.fixture(scope="module")
def bundled() -> Vocabulary:
    found = Vocabulary.of(find_model(BUNDLED))
    assert found is not None
    return found


def test_the_file_that_ships_is_what_the_world_says(bundled: Vocabulary) -> None:
    pytest.importorskip("skia", reason="drawing scenes needs the extra 'train'")
    from amused_lite.training.scenes import caption, random_scene
    from amused_lite.training.scenes.captions import words

    assert bundled.groups == words()
    for index in range(1000):
        said = caption(random_scene(0, index, "all"), Random(index))
        assert not bundled.unknown(said), said


def test_unknown_words_are_named_with_the_nearest_known_ones(bundled: Vocabulary) -> None:
    assert bundled.remark("Two RED baloons, above a big blue house at night") == (
        "this model was never shown 'baloons' (did you mean balloons or balloon?)"
    )
    said = bundled.remark("a photo of a cat on a skateboard")
    assert all(f"'{word}'" in said for word in ("photo", "cat", "skateboard")) and "it knows balloon" in said
    assert not bundled.remark("a cat", also="in the style of a cat")
    assert len(bundled.remark("\n".join("x" * 500 + str(number) for number in range(99)))) < 500


def test_a_picture_says_which_words_of_its_prompt_mean_nothing() -> None:
    amused = AmusedPipeline.open(BUNDLED)
    assert amused.remarks("a red balloon at night") == []
    (said,) = amused.remarks("a red ballon at night", "grass")
    assert "'ballon' (did you mean balloon" in said and "'grass'" in said


def test_a_model_without_a_list_is_left_alone_and_a_damaged_list_refused(tmp_path: Path) -> None:
    assert Vocabulary.of(tmp_path) is None
    for text in ("[]", '{"things": 3}', '{"things": {"": []}}', "\x00"):
        (tmp_path / WORDS).write_text(text)
        with pytest.raises(ValueError, match="get the model again"):
            Vocabulary.of(tmp_path)


def test_the_command_lists_them_and_looks_a_sentence_over(
    bundled: Vocabulary, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["words"]) == 0
    said = capsys.readouterr().out
    assert [line[:-1] for line in said.splitlines() if line.endswith(":")][:4] == list(OFFERED)
    assert all(thing in said for thing in bundled.offered(THINGS))
    assert main(["words", "a red baloon", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"unknown": {"baloon": bundled.nearest("baloon")}}
    assert main(["words", "a red balloon"]) == 0 and capsys.readouterr().out == "every word of it is known\n"
    assert main(["words", "-m", str(tmp_path)]) == 2
    assert "brings no list of its words" in capsys.readouterr().err
