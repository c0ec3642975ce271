"""Lets `import torchvision` survive a torch it was not built for.

On Linux x86-64 the registry's torchvision is a CUDA build. Beside a CPU-only torch its library does not load, and then
transformers, diffusers and open_clip cannot be imported either, although none of them needs the missing operators here.
"""

import importlib.util
import re
import sys

import torch

_MISSING = re.compile(r"operator torchvision::(\w+) does not exist")
_DECLARED: list[
    torch.library.Library
] = []  # torch.library.Library unregisters its operators when it is garbage-collected


def ensure_torchvision() -> None:
    """Declare the operators that torchvision misses, by name only; does nothing where torchvision works or is absent.

    Call it before the first import of transformers, diffusers or open_clip.

    Raises:
        RuntimeError: torchvision fails for another reason.
    """
    if "torchvision" in sys.modules or importlib.util.find_spec("torchvision") is None:
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for _ in range(8):
        try:
            importlib.import_module("torchvision")
            return
        except RuntimeError as error:
            missing = _MISSING.search(str(error))
            if missing is None:
                raise
            for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
                del sys.modules[name]
            library.define(f"{missing[1]}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _DECLARED.append(library)
    raise RuntimeError("torchvision misses too many operators; install the torchvision that matches this torch")
