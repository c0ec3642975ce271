"""Import this before diffusers, transformers or peft: beside some builds of torch they need help, and they are loud."""

import importlib

from amused_lite.models.torchvision_shim import ensure_torchvision

ensure_torchvision()
for name in ("diffusers", "transformers"):
    importlib.import_module(name).utils.logging.disable_progress_bar()
