"""Models from the Hugging Face hub, in the cache that its own library keeps: downloaded once, then offline.

That library starts a file again when its process was stopped, so `fetch` downloads the large ones itself, into
`blobs/SHA256.part` of that cache: a later process goes on from there, and what has arrived is compared with the hash
that the hub states before the library finds it under its name.
"""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from amused_lite.console.terminal import size_text
from amused_lite.files.atomic import DISK_FULL

# Nothing that could be unpickled or executed is ever fetched. The half-precision twins of the same weights are not
# needed where full ones exist.
_PATTERNS = ["*.json", "*.txt", "*.safetensors"]
_HALF = "*.fp16.safetensors"
_INDEXES = ("model_index.json", "manifest.json")  # every model has one of these
_PARTIAL = ".part"
_PICKLES = (".bin", ".ckpt", ".pkl", ".pt", ".pth")
_SHA256 = re.compile("[0-9a-f]{64}")
_BLOCK = 2**20  # bytes read at once to hash


@dataclass(frozen=True, order=True)
class HubFile:
    """A file of a model on the hub."""

    name: str
    size: int  # bytes
    sha256: str | None  # of large files; the hub states none for small ones


@dataclass(frozen=True)
class HubModel:
    """A model on the hub at one commit, by its files."""

    name: str
    commit: str
    files: tuple[HubFile, ...]


def download(model: str) -> Path:
    """The local folder of a hub id, with only safetensors, JSON and text files in it.

    Raises:
        FileNotFoundError: the hub has no such model, or does not show it to you.
        ConnectionError: the hub cannot be reached and the model is not on this machine yet.
    """
    from huggingface_hub import snapshot_download

    with _plain_errors(model):
        folder = Path(snapshot_download(model, allow_patterns=_PATTERNS, ignore_patterns=[_HALF]))
        if not any(folder.rglob("*.safetensors")):
            folder = Path(snapshot_download(model, allow_patterns=_PATTERNS))
    return folder


def look_up(model: str, revision: str | None = None) -> HubModel:
    """What the hub has under a name, with sizes and hashes; downloads nothing.

    Args:
        model: hub id.
        revision: branch, tag or commit; the main branch when None.

    Raises:
        FileNotFoundError: the hub has no such model or revision, or does not show it to you.
        ConnectionError: the hub cannot be reached.
    """
    from huggingface_hub import HfApi

    with _plain_errors(model, revision):
        info = HfApi().model_info(model, revision=revision, files_metadata=True)
    files = [
        HubFile(item.rfilename, item.size or 0, _hash(item.lfs.sha256, item.rfilename) if item.lfs else None)
        for item in info.siblings or ()
    ]
    return HubModel(model, str(info.sha), tuple(sorted(files)))


def _hash(text: str, name: str) -> str:
    """A hash as the hub states it, which becomes the name of a file here."""
    if not _SHA256.fullmatch(text):
        raise ValueError(f"the hub states no sha256 of {name} but {text[:80]!r}; its answer cannot be used")
    return text


def count_weights(model: HubModel) -> int:
    """How many numbers the safetensors files of a model hold, from their first bytes on the hub.

    Raises:
        ConnectionError: the hub cannot be reached.
        ValueError: a file is no safetensors file.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import SafetensorsParsingError

    names = [file.name for file in model.files if file.name.endswith(".safetensors")]
    try:
        with _plain_errors(model.name):
            read = HfApi().parse_safetensors_file_metadata
            headers = [read(model.name, name, revision=model.commit) for name in names]
    except SafetensorsParsingError as error:
        raise ValueError(f"{model.name} on the hub has damaged weights ({str(error)[:100]}); give another") from error
    return sum(count for header in headers for count in header.parameter_count.values())


def blobs(model: str) -> Path:
    """Where the cache keeps the contents of a model's files."""
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.file_download import repo_folder_name

    return Path(HF_HUB_CACHE) / repo_folder_name(repo_id=model, repo_type="model") / "blobs"


def arrived(model: HubModel) -> int:
    """Bytes of a model's files that are in the cache, those of files that are not complete among them."""
    from huggingface_hub import try_to_load_from_cache

    total = 0
    for file in model.files:
        if isinstance(try_to_load_from_cache(model.name, file.name, revision=model.commit), str):
            total += file.size
        elif file.sha256:
            place = blobs(model.name) / file.sha256
            partial = place.with_name(place.name + _PARTIAL)
            total += file.size if place.is_file() else partial.stat().st_size if partial.is_file() else 0
    return total


def fetch(model: HubModel, progress: Callable[[int], object]) -> Path:
    """Download the files of a model that are not in the cache yet, and return their folder.

    Args:
        model: what to fetch, all of its files.
        progress: is given the bytes that came, again and again.

    Raises:
        ConnectionError: the connection broke and did not come back; what has arrived is kept.
        ValueError: a file is not what the hub says it is.
        OSError: the disk is full, or may not be written.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()  # the caller has one
    folder = None
    with _plain_errors(model.name):
        for file in model.files:
            if file.sha256:
                _fetch_large(model, file, progress)
            path = Path(hf_hub_download(model.name, file.name, revision=model.commit))
            folder = folder or path.parents[len(Path(file.name).parts) - 1]
            if not file.sha256:
                progress(file.size)
    if folder is None:
        raise ValueError(f"{model.name} has no files to download; check the name")
    return folder


def _fetch_large(model: HubModel, file: HubFile, progress: Callable[[int], object]) -> None:
    """One file into the cache, going on from what an earlier process left."""
    from huggingface_hub import hf_hub_url, try_to_load_from_cache
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    assert file.sha256 is not None
    if isinstance(try_to_load_from_cache(model.name, file.name, revision=model.commit), str):
        progress(file.size)
        return
    place = blobs(model.name) / file.sha256
    partial = place.with_name(place.name + _PARTIAL)
    if place.exists():
        progress(file.size)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial.open("ab") as target:
            start = target.tell()
            progress(start)
            http_get(
                hf_hub_url(model.name, file.name, revision=model.commit),
                target,
                resume_size=start,
                headers=build_hf_headers(),
                expected_size=file.size,
                displayed_filename=file.name,
                _tqdm_bar=_Reporter(progress),  # type: ignore[arg-type]  # of which `update` alone is called
            )
    except OSError as error:
        if error.errno in DISK_FULL:
            missing, free = file.size - partial.stat().st_size, shutil.disk_usage(place.parent).free
            problem = f"the disk of {place.parent} is full: {file.name} lacks {size_text(missing)}"
            remedy = "make room and run this again, what has arrived is kept"
            raise OSError(f"{problem}, {size_text(free)} are free; {remedy}") from error
        raise
    _check_hash(partial, model, file)
    partial.replace(place)


class _Reporter:
    """What the hub's library takes for its bar."""

    def __init__(self, progress: Callable[[int], object]) -> None:
        self._progress = progress

    def update(self, count: float | None = 1) -> None:
        """Bytes that came, or with a minus bytes that must come again."""
        self._progress(int(count or 0))


def _check_hash(partial: Path, model: HubModel, file: HubFile) -> None:
    digest = hashlib.sha256()
    with partial.open("rb") as source:
        while block := source.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() != file.sha256:
        partial.unlink()
        said = f"sha256 {digest.hexdigest()[:12]}..., the hub says {str(file.sha256)[:12]}..."
        remedy = "it was deleted; run this again to download it anew"
        raise ValueError(f"{file.name} of {model.name} arrived damaged ({said}); {remedy}")


@contextmanager
def _plain_errors(model: str, revision: str | None = None) -> Iterator[None]:
    """Errors of the hub's library become ours."""
    from huggingface_hub.errors import HFValidationError, HTTPError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        yield
    except RevisionNotFoundError as error:
        remedy = "give a branch, a tag or a commit that it has"
        raise FileNotFoundError(f"{model!r} on the hub has no revision {revision!r}; {remedy}") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        remedy = "check the name, or run `hf auth login` if it is private"
        raise FileNotFoundError(f"model {model!r} is neither a folder here nor on the hub; {remedy}") from error
    except (OSError, HTTPError) as error:
        if isinstance(error, OSError) and (error.errno is not None or type(error) is OSError):
            raise  # an error of the disk has an errno; errors of the hub have none
        problem = f"model {model!r} is not complete on this machine and the hub cannot be reached"
        remedy = "connect to the network and try again (what has arrived is kept), or give a local folder"
        raise ConnectionError(f"{problem}; {remedy}") from error


def is_here(model: str) -> bool:
    """Whether `model` is a hub id whose download is on this machine already. Asks no network."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return any(isinstance(try_to_load_from_cache(model, name), str) for name in _INDEXES)
    except HFValidationError:
        return False


def wanted_files(
    model: HubModel, parts: Sequence[str], variant: str | None = None, subfolder: str | None = None
) -> HubModel:
    """Only the files that a folder in diffusers' layout needs; see `needed_files`.

    subfolder: of the repository, where the model lies in one.

    Raises:
        ValueError: see `needed_files`.
    """
    top = f"{subfolder.strip('/')}/" if subfolder else ""
    names = [file.name.removeprefix(top) for file in model.files if file.name.startswith(top)]
    where = f"{model.name} on the hub" + (f", in {top}," if top else "")
    needed = {top + name for name in needed_files(names, where, parts, variant)}
    return replace(model, files=tuple(file for file in model.files if file.name in needed))


def needed_files(names: Sequence[str], where: str, parts: Sequence[str], variant: str | None = None) -> list[str]:
    """Those of a folder's files that a model in diffusers' layout needs.

    Args:
        names: relative to the folder, with slashes.
        where: what to call the folder.
        parts: subfolders with weights.
        variant: of the weights. None: half precision where every part has it, else what each part has.

    Raises:
        ValueError: the model is not in that layout, or not whole; the message names every file that is missing.
    """
    weights = {part: {kind: _weights(names, part, kind) for kind in ("fp16", "", variant or "")} for part in parts}
    half = all(found["fp16"] for found in weights.values())
    chosen, problems = [], []
    for part, found in weights.items():
        files = found[variant] if variant is not None else (half and found["fp16"]) or found[""] or found["fp16"]
        chosen += files
        if not files:
            pickles = [name for name in names if name.startswith(f"{part}/") and name.endswith(_PICKLES)]
            kind = f" of variant {variant!r}" if variant else ""
            problems.append(f"{part}/ has no safetensors weights{kind}")
            if pickles and not any(found.values()):
                problems[-1] += f", only {pickles[0].partition('/')[2]}, which can run code when read"
    settings = [*(f"{part}/config.json" for part in parts), "scheduler/scheduler_config.json"]
    words = [["tokenizer/tokenizer.json"], ["tokenizer/vocab.json", "tokenizer/merges.txt"]]
    missing = [name for name in settings if name not in names]
    if not any(all(name in names for name in choice) for choice in words):
        missing.append(words[0][0])
    if missing:
        problems.append(f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")
    if problems:
        has = ", ".join(name for name in names if name.endswith((".safetensors", *_PICKLES)) or "/" not in name)
        remedy = "give a whole model in diffusers' layout"
        raise ValueError(f"{where} is not whole: {'; '.join(problems)}; it has {has[:300] or 'nothing'}; {remedy}")
    folders = (*parts, "tokenizer", "scheduler", "model_index.json")
    texts = [name for name in names if name.endswith((".json", ".txt")) and name.partition("/")[0] in folders]
    return sorted({*chosen, *texts})


def _weights(names: Sequence[str], part: str, kind: str) -> list[str]:
    """The safetensors files of a part in a variant, such as "fp16"; "" is the plain one."""
    found = []
    for name in names:
        folder, _, file = name.partition("/")
        middle = [word.partition("-")[0] for word in file.split(".")[1:-1]]  # between stem and suffix, without shards
        if (
            folder == part
            and file.endswith(".safetensors")
            and "/" not in file
            and (kind in middle if kind else not middle)
        ):
            found.append(name)
    return found
