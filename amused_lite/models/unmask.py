"""One unmask step (MaskGIT, Chang et al. 2022; aMUSEd, section 3): predict, draw, keep the confident, mask the rest.

Knows logits and tokens; knows no text, no files, no loop and no random numbers: the host supplies standard Gumbel
noise, and adding it before an argmax is an exact categorical draw. Ranks come from comparisons because sorting exports
badly. Everything behind the head is float32 and owns no weights, so quantizers pass it by.
"""

import torch
from torch import Tensor, nn

from amused_lite.conditioning import Conditioning
from amused_lite.models.uvit import TokenSide

KNOWN = 1e4  # confidence of tokens that are never masked again; fits float16


def guide(negative: Tensor, prompted: Tensor, scale: Tensor) -> Tensor:
    """Classifier-free guidance (Ho and Salimans 2022): away from `negative`, through `prompted` at scale 1."""
    return negative + scale * (prompted - negative)


def draw_tokens(log_probs: Tensor, token_temperature: Tensor, token_noise: Tensor) -> Tensor:
    """log_probs (B, N, K), token_temperature (1,), token_noise (B, N, K) -> drawn codes (B, N).

    Temperature 1 is the published sampler.
    """
    return (log_probs / token_temperature + token_noise).argmax(-1)


def draw_with_confidence(
    logits: Tensor, token_temperature: Tensor, mask_temperature: Tensor, token_noise: Tensor, order_noise: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """logits and token_noise (..., K), order_noise (...) -> drawn codes (...), their confidence (...), log_probs."""
    log_probs = logits.float().log_softmax(-1)
    drawn = draw_tokens(log_probs, token_temperature, token_noise)
    # Confidence is the log-probability at temperature 1, whatever temperature the token was drawn at.
    confidence = log_probs.gather(-1, drawn[..., None])[..., 0] + mask_temperature * order_noise
    return drawn, confidence, log_probs


def remask(confidence: Tensor, sampled_tokens: Tensor, num_masked: Tensor, mask_token_id: int) -> Tensor:
    """confidence, sampled_tokens (B, N), num_masked (B,) -> the tokens with the `num_masked` least confident masked.

    Equal confidences at the edge stay unmasked together, as in the published cut-off rule.
    """
    # Counted in float32, which is exact below 2**24 tokens and runs on every accelerator.
    rank = (confidence[:, None, :] <= confidence[:, :, None]).float().sum(-1)  # (B, N), 1 for the least confident
    masked = rank <= num_masked[:, None].float()
    return torch.where(masked, torch.full_like(sampled_tokens, mask_token_id), sampled_tokens)


class UnmaskTail(nn.Module):
    """From logits to the next tokens. No weights; a module so that its nodes carry its name in exported graphs."""

    def __init__(self, mask_token_id: int) -> None:
        super().__init__()
        self.mask_token_id = mask_token_id

    def forward(
        self,
        logits: Tensor,
        tokens: Tensor,
        token_temperature: Tensor,
        mask_temperature: Tensor,
        num_masked: Tensor,
        token_noise: Tensor,
        order_noise: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """logits (B, N, K) and the inputs of `UnmaskStep` -> (tokens, sampled_tokens, log_probs)."""
        noise = token_noise, order_noise
        drawn, confidence, log_probs = draw_with_confidence(logits, token_temperature, mask_temperature, *noise)
        unknown = tokens == self.mask_token_id
        confidence = torch.where(unknown, confidence, torch.full_like(confidence, KNOWN))
        sampled_tokens = torch.where(unknown, drawn.to(torch.int32), tokens)
        return remask(confidence, sampled_tokens, num_masked, self.mask_token_id), sampled_tokens, log_probs


class UnmaskStep(nn.Module):
    """Predict every masked token, keep the confident ones, mask the rest again. Exported as one graph."""

    def __init__(self, token_side: TokenSide) -> None:
        super().__init__()
        self.token_side = token_side
        self.tail = UnmaskTail(token_side.config.mask_token_id)

    def predict(self, tokens: Tensor, conditioning: Conditioning, guidance_scale: Tensor) -> Tensor:
        """tokens (B, N), conditioning of 2B rows (negatives first) or of B, guidance_scale (1,) -> logits (B, N, K).

        With B rows there is nothing to guide away from: half the work, and the scale is of no account.
        """
        return self.token_side.head(self.guided_features(tokens, conditioning, guidance_scale))

    def guided_features(self, tokens: Tensor, conditioning: Conditioning, guidance_scale: Tensor) -> Tensor:
        """As `predict`, but what the head turns into logits: (B, N, token width).

        The head is linear without a bias: guiding its input is guiding its logits, for half the largest product.
        """
        pictures, rows = tokens.shape[0], conditioning.block_text.shape[0]
        features = self.token_side.features(tokens.repeat(rows // pictures, 1), conditioning)
        negative, prompted = features[:pictures], features[rows - pictures :]  # the same rows when there are only B
        return guide(negative, prompted, guidance_scale.to(features.dtype))

    def sparse(
        self,
        tokens: Tensor,
        conditioning: Conditioning,
        guidance_scale: Tensor,
        token_temperature: Tensor,
        mask_temperature: Tensor,
        num_masked: Tensor,
        token_noise: Tensor,
        order_noise: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The first two results of `forward`, with head and draw for masked tokens only.

        Logits of known tokens are not used, and over the steps of a picture they are a third of all. Not for graphs,
        whose shapes would depend on the tokens.
        """
        unknown = tokens == self.tail.mask_token_id  # (B, N), M of them
        features = self.guided_features(tokens, conditioning, guidance_scale)
        noise = token_noise[unknown], order_noise[unknown]
        logits = self.token_side.head(features[unknown])  # (M, K)
        drawn, drawn_confidence, _ = draw_with_confidence(logits, token_temperature, mask_temperature, *noise)
        confidence = torch.full_like(order_noise, KNOWN).masked_scatter(unknown, drawn_confidence)
        sampled_tokens = tokens.masked_scatter(unknown, drawn.to(torch.int32))
        return remask(confidence, sampled_tokens, num_masked, self.tail.mask_token_id), sampled_tokens

    def forward(
        self,
        tokens: Tensor,
        block_text: Tensor,
        layer_text: Tensor,
        block_modulation: Tensor,
        layer_modulation: Tensor,
        guidance_scale: Tensor,
        token_temperature: Tensor,
        mask_temperature: Tensor,
        num_masked: Tensor,
        token_noise: Tensor,
        order_noise: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One step for B pictures.

        tokens (B, N) int32; the four arrays of `Conditioning` with 2B rows, negatives first, or B rows to go unguided;
        guidance_scale, token_temperature and mask_temperature (1,); num_masked (B,) int32; token_noise (B, N, K);
        order_noise (B, N) -> (tokens, sampled_tokens, log_probs). The first two (B, N) int32; sampled_tokens is every
        token as drawn, for previews. log_probs (B, N, K): log-probabilities after guidance, before the temperature.
        """
        conditioning = Conditioning(block_text, layer_text, block_modulation, layer_modulation)
        logits = self.predict(tokens, conditioning, guidance_scale)
        return self.tail(logits, tokens, token_temperature, mask_temperature, num_masked, token_noise, order_noise)
