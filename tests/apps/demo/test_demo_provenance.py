"""Files say that a model made them, in the words that IPTC chose, where any XMP reader finds them."""

from io import BytesIO
from xml.etree import ElementTree

import pytest
from PIL import Image
from serving import alone, half_mask

from amused_lite.editing.operations import inpaint
from amused_lite.files.png import encode_png
from amused_lite.pipeline import AmusedPipeline, Picture

_IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"


def source_type(picture: Picture) -> str:
    """Read with a plain XML parser from where the XMP specification says it is."""
    with Image.open(BytesIO(bytes(encode_png(picture.image, picture.recipe)))) as image:
        image.load()
        packet = image.info["XML:com.adobe.xmp"]
    return next(element.attrib[_IPTC] for element in ElementTree.fromstring(packet).iter() if _IPTC in element.attrib)


def test_a_drawn_picture_is_called_trained_algorithmic_media() -> None:
    assert source_type(alone("a red cup", 7, 1)) == _TYPES + "trainedAlgorithmicMedia"


def test_an_inpainted_picture_is_called_a_composite() -> None:
    amused = AmusedPipeline.open("tiny", threads=1, keep_loaded=True)
    drawn = alone("a red cup", 7, 1)
    edited = amused.run(inpaint(amused, drawn, half_mask(), "a blue cup", steps=1, seed=1))
    assert source_type(edited) == _TYPES + "compositeWithTrainedAlgorithmicMedia"


def test_a_picture_without_its_recipe_says_nothing() -> None:
    picture = alone("a red cup", 7, 1)
    with Image.open(BytesIO(bytes(encode_png(picture.image, None)))) as image:
        image.load()
        assert not image.info.keys() & {"XML:com.adobe.xmp", "parameters", "amused_lite"}


@pytest.mark.parametrize("word", ["parameters", "amused_lite"])
def test_the_other_texts_are_still_there(word: str) -> None:
    picture = alone("a red cup", 7, 1)
    with Image.open(BytesIO(bytes(encode_png(picture.image, picture.recipe)))) as image:
        image.load()
        assert word in image.info
