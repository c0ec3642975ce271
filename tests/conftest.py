"""What every test needs before it imports a library of models."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: figures should not depend on the machine's cores
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test reaches for the network

import importlib.util

if importlib.util.find_spec("torch") is not None:
    from amused_lite.models.torchvision_shim import ensure_torchvision

    ensure_torchvision()

if importlib.util.find_spec("diffusers") is not None and importlib.util.find_spec("transformers") is not None:
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
