"""What a prompt becomes before any token is drawn. Knows no torch: the fields hold whatever arrays a runtime uses.

Of the U-ViT's weights about a third see only the prompt and the micro-conditioning. They run once, and `Conditioning`
is everything they leave behind for the unmask steps.
"""

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # only where arrays are made: sampling settings name `MicroConditioning`, and `--help` those
    import numpy as np


class Conditioning(NamedTuple):
    """Four arrays, batch first. R = res blocks per side, T = text positions, C = block width, D = hidden size."""

    block_text: Any  # (B, 4R, 2, T, C)  keys and values of the two attentions of each down, then each up block
    layer_text: Any  # (B, L, 2, T, D)   keys and values of each transformer layer's cross-attention
    block_modulation: Any  # (B, 2R, 2, C)    scale and shift after each residual block
    layer_modulation: Any  # (B, L, 3, 2, D)  scale and shift of each layer's three norms


@dataclass(frozen=True)
class MicroConditioning:
    """SDXL-style numbers about the training picture (Podell et al. 2023, section 2.2), in the order aMUSEd feeds them.

    Sizes and crops in pixels; `aesthetic_score` 0 to 10. aMUSEd's pipelines put width before height, and so do we.
    """

    width: float
    height: float
    crop_top: float = 0.0
    crop_left: float = 0.0
    aesthetic_score: float = 6.0

    def array(self) -> "np.ndarray":
        """As (1, 5) float32, one row for a picture."""
        import numpy as np

        return np.array([astuple(self)], dtype=np.float32)


def stack_pair(negative: Conditioning, prompt: Conditioning) -> Conditioning:
    """NumPy conditioning for guidance: the negative rows first, then the prompt rows.

    A single negative row serves every prompt row.
    """
    import numpy as np

    count = prompt.block_text.shape[0]
    return Conditioning(
        *(np.concatenate([np.broadcast_to(n, (count, *n.shape[1:])), p]) for n, p in zip(negative, prompt, strict=True))
    )
