"""Checkpoints of weights that are split over processes, by torch's distributed checkpoints in their safetensors form.

Every process writes its own parts, and the first one joins them into one file, which any number of processes reads.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor
from torch.distributed.tensor import DTensor

from amused_lite.training.loop.distributed import is_first

_FILE = "model-00001-of-00001.safetensors"  # as the library calls what it has joined


def split_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those that are split over processes."""
    return {name: tensor for name, tensor in tensors.items() if isinstance(tensor, DTensor)}


def split_file(folder: Path, step: int) -> Path:
    """Where they are kept at a step."""
    return folder / f"split-{step:08d}" / _FILE


def write_split(folder: Path, step: int, tensors: Mapping[str, Tensor]) -> None:
    """Write split tensors; all processes have to call it.

    Raises:
        OSError: the folder cannot be written, or the disk is full; what was there before stays.
    """
    from torch.distributed import checkpoint

    target = split_file(folder, step).parent
    if is_first():
        shutil.rmtree(target, ignore_errors=True)  # of a save that was killed
    # Without scalars: joining makes zeros of them (torch 2.13).
    writer = checkpoint.HuggingFaceStorageWriter(str(target), save_distributed=True, enable_consolidation=True)
    try:
        checkpoint.save(dict(tensors), storage_writer=writer)
    except checkpoint.CheckpointException as error:  # every process gets it, and it is no Exception
        if is_first():
            shutil.rmtree(target, ignore_errors=True)
        (reason, _), *_ = error.failures.values()
        raise OSError(f"{target} cannot be written: {reason}; make room, then start it again") from error
    if is_first():
        shutil.rmtree(target / "sharded")


def forget_split(folder: Path, step: int) -> None:
    """Remove those of other steps."""
    for old in folder.glob("split-*"):
        if old != split_file(folder, step).parent:
            shutil.rmtree(old)
