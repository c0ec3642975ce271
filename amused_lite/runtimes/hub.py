"""Models from the Hugging Face hub: downloaded once (broken connections resume, whole files are kept), then offline."""

from pathlib import Path

# Nothing that could be unpickled or executed is ever fetched. The half-precision twins of the same weights are not
# needed where full ones exist.
_PATTERNS = ["*.json", "*.txt", "*.safetensors"]
_HALF = "*.fp16.safetensors"
_INDEXES = ("model_index.json", "manifest.json")  # every model has one of these


def download(model: str) -> Path:
    """The local folder of a hub id, with only safetensors, JSON and text files in it.

    Raises:
        FileNotFoundError: the hub has no such model, or does not show it to you.
        ConnectionError: the hub cannot be reached and the model is not on this machine yet.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, HTTPError, RepositoryNotFoundError

    try:
        folder = Path(snapshot_download(model, allow_patterns=_PATTERNS, ignore_patterns=[_HALF]))
        if not any(folder.rglob("*.safetensors")):
            folder = Path(snapshot_download(model, allow_patterns=_PATTERNS))
    except (RepositoryNotFoundError, HFValidationError) as error:
        remedy = "check the name, or run `hf auth login` if it is private"
        raise FileNotFoundError(f"model {model!r} is neither a folder here nor on the hub; {remedy}") from error
    except (OSError, HTTPError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # an error of the disk has an errno; errors of the hub have none
        problem = f"model {model!r} is not complete on this machine and the hub cannot be reached"
        remedy = "connect to the network and try again (what has arrived is kept), or give a local folder"
        raise ConnectionError(f"{problem}; {remedy}") from error
    return folder


def is_here(model: str) -> bool:
    """Whether `model` is a hub id whose download is on this machine already. Asks no network."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return any(isinstance(try_to_load_from_cache(model, name), str) for name in _INDEXES)
    except HFValidationError:
        return False
