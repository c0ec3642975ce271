"""A model of small pictures becomes one of pictures twice as large: amused-256 -> amused-512 (aMUSEd, section 4.1).

The grown U-ViT takes four tokens where it took one and has them in the middle as one: it gains a layer that halves the
grid before its blocks and one that doubles it after them. The new layers begin as a mean and as a copy, at the size of
numbers that the blocks are used to, so that a grid whose tokens come in fours is answered as the small grid was.
"""

from dataclasses import replace

import torch
from torch import nn

from amused_lite.models.networks import Networks
from amused_lite.models.uvit import TokenSide


def grown(networks: Networks) -> Networks:
    """The same model for pictures of twice the side; shares the weights that stay.

    Raises:
        ValueError: it resamples already.
    """
    config = networks.config.uvit
    if config.resample:
        said = f"the model draws {networks.config.image_size} px and halves its grid already"
        raise ValueError(f"{said}; only models such as amused/amused-256 grow")
    uvit = replace(config, grid=2 * config.grid, resample=True)
    made = Networks(replace(networks.config, uvit=uvit))
    values = networks.state_dict() | {
        f"uvit.token_side.{k}": v for k, v in _new_layers(networks.uvit.token_side).items()
    }
    made.load_state_dict(values)
    return made.eval()


@torch.no_grad()
def _new_layers(side: TokenSide) -> dict[str, torch.Tensor]:
    features = side.embedding_projection(side.embedding_norm(side.embedding.weight))  # (V, C), of every token
    size = features.pow(2).mean(-1).sqrt().mean()
    width = features.shape[-1]
    copy = torch.eye(width)[:, :, None, None].expand(-1, -1, 2, 2)
    return {
        "down_norm.weight": size.expand(width).clone(),  # the norm takes the size away
        "down.weight": copy / 4,
        "up_norm.weight": nn.init.ones_(torch.empty(width)),  # before the head's own norm: any size will do
        "up.weight": copy.clone(),
    }
