"""Prompts to find ranges with, and others to measure on: scenes for models of the tiny preset, pictures of all kinds
for the published ones. They are none of the held-out prompts that `amused-lite evaluate` scores."""

from amused_lite.config import ModelConfig

SCENES = (
    "a red star on a white background",
    "two blue circles on grey",
    "a green triangle above a yellow square",
    "a purple heart on a black background",
    "an orange house in a meadow under the sky",
    "a blue boat on the sea",
    "a yellow moon at night",
    "a red balloon left of a green tree",
    "a pink flower on white",
    "three green stars",
    "a big blue heart and a small red circle",
    "a yellow fish on the sea",
    "a purple tree in a meadow",
    "a red car on grey",
    "a green square below an orange circle",
    "a blue flower right of a pink house",
)
PICTURES = (
    "a photo of an old lighthouse on a cliff at sunset",
    "a bowl of oranges on a wooden table, oil painting",
    "a red bicycle leaning against a brick wall",
    "portrait of an elderly fisherman, black and white",
    "a snowy mountain village at night",
    "a cat sleeping on a windowsill",
    "watercolour of a harbour with small boats",
    "a plate of pasta with basil, seen from above",
    "a city street in the rain with neon signs",
    "a green field with a single tree under a stormy sky",
    "a robot reading a newspaper, illustration",
    "close-up of a bee on a sunflower",
    "an astronaut riding a horse",
    "a cosy library with a fireplace",
    "a blue vase with white tulips",
    "a steam train crossing a stone bridge",
)


def prompts_for(config: ModelConfig, count: int, measuring: bool = False) -> list[str]:
    """The first `count` prompts to find ranges with, or as many others to measure on; fewer where there are no more."""
    known = SCENES if config.text.vocab_size < 10_000 else PICTURES
    half = len(known) // 2
    listed = known[half:] if measuring else known[:half]
    return list(listed[:count])
