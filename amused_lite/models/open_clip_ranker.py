"""Any open_clip model as a ranker, for models that have none of their own. Weights are local safetensors files."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from amused_lite.system.extras import require_extra
from amused_lite.system.paths import as_path


class OpenClipRanker:
    """`ranking.Ranker` on open_clip (Ilharco et al. 2021)."""

    def __init__(self, spec: str) -> None:
        """Open an architecture with weights.

        Args:
            spec: such as `ViT-B-32:/path/to/weights.safetensors`: one of open_clip's names, and the weights' file.

        Raises:
            ValueError: it is not of that form, the architecture is unknown, or the weights are not safetensors or
                not of that architecture.
            FileNotFoundError: there is no such file.
            MissingExtraError: open_clip is not installed.
        """
        name, colon, weights = spec.partition(":")
        if not colon or not weights:
            raise ValueError(f"ranker {spec!r} must be an architecture and its weights: ViT-B-32:weights.safetensors")
        path = as_path(weights)
        if path.suffix != ".safetensors":
            raise ValueError(f"{path} is no safetensors file; other formats can run code when read")
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing; give the weights of {name} as a safetensors file")
        require_extra("train", "ranking by open_clip", "torch", "open_clip")
        from amused_lite.models.torchvision_shim import ensure_torchvision

        ensure_torchvision()
        import open_clip

        if name not in open_clip.list_models():
            raise ValueError(f"open_clip knows no {name!r}; its names are those of open_clip.list_models()")
        try:
            model, _, preprocess = open_clip.create_model_and_transforms(name, pretrained=str(path))
        except (RuntimeError, ValueError, KeyError, AssertionError) as error:  # whatever a foreign file trips it over
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise ValueError(f"{path} cannot be read as weights of {name} ({reason})") from error
        self._model: Any = model.eval()
        self._preprocess: Any = preprocess
        self._tokenizer = open_clip.get_tokenizer(name)

    @torch.inference_mode()
    def scores(self, prompt: str, images: Sequence[Image.Image]) -> list[float]:
        """See `Ranker`."""
        text = self._model.encode_text(self._tokenizer([prompt]), normalize=True)
        pixels = torch.stack([torch.as_tensor(self._preprocess(image.convert("RGB"))) for image in images])
        return (self._model.encode_image(pixels, normalize=True) @ text[0]).tolist()
