"""The tokens that clients must bring, from a flag, a file or the environment, and who clients are by them."""

import hashlib
import hmac
import os
import re
import stat
from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from pathlib import Path

MIN_TOKEN = 16  # characters
COOKIE = "amused_token"
VARIABLE = "AMUSED_LITE_TOKEN"
_MAX_FILE = 2**16  # bytes
_LINE = re.compile(r"(?:([\w.-]{1,40}):\s*)?(\S+)")


@dataclass(frozen=True)
class Client:
    """Who asks: requests whose clients are equal count as one client's."""

    name: str  # of its token; where tokens have no names, a digest of what it sent as one, "" where it sent none
    address: str  # "" where the name says it all


def read_tokens(text: str | None, file: Path | None) -> dict[str, str]:
    """Tokens by name, from a flag's text, a file, or else the environment; none where nothing gives one.

    The only token has the name "". In a file with several, each line is `name: token`; `#` begins a comment.

    Raises:
        ValueError: a token is too short or not plain, the file cannot be used, or both flags are given.
    """
    if text is not None and file is not None:
        raise ValueError("--token and --token-file exclude each other; leave one out")
    if file is not None:
        return _from_file(file)
    text = os.environ.get(VARIABLE) if text is None else text
    if text is None:
        return {}
    _check(text, "--token" if VARIABLE not in os.environ else f"--token or {VARIABLE}")
    return {"": text}


def _from_file(file: Path) -> dict[str, str]:
    if not stat.S_ISREG(file.stat().st_mode) or file.stat().st_size > _MAX_FILE:
        raise ValueError(f"{file} must be a text file of at most {_MAX_FILE // 1024} KB; give one with a token")
    try:
        lines = [line.partition("#")[0].strip() for line in file.read_text("utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not text in UTF-8; give a file with a token") from error
    tokens: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        found, place = _LINE.fullmatch(line), f"line {number} of {file}"
        if found is None:
            raise ValueError(f'{place} must be a token, or "name: token" with a plain name of at most 40 letters')
        name, token = found[1] or "", found[2]
        _check(token, place)
        if name in tokens or token in tokens.values():
            raise ValueError(f"{place} has a name or a token that was there before; give each once")
        tokens[name] = token
    if not tokens or (len(tokens) > 1 and "" in tokens):
        raise ValueError(f'{file} must hold one token, or lines of "name: token"')
    return tokens


def _check(token: str, place: str) -> None:
    if len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable():
        raise ValueError(f"{place}: a token needs {MIN_TOKEN} or more plain characters; another host makes its own")


def sent_tokens(headers: Mapping[str, str]) -> Iterator[str]:
    """What a request brings as a token: bearer, the password of basic authentication, and the cookie."""
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        yield value.strip()
    elif kind.lower() == "basic":  # for clients that know names and passwords only
        try:
            yield b64decode(value).decode("utf-8", "replace").partition(":")[2]
        except ValueError:
            return
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return
    if cookie is not None:
        yield cookie.value


def name_of(given: str, tokens: Mapping[str, str]) -> str | None:
    """Whose token this is; None where it is nobody's."""
    names = [name for name, token in tokens.items() if _same(given, token)]  # each is compared, whichever it is
    return names[0] if names else None


def digest(text: str) -> str:
    """What stands for a secret where it must not be kept."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())
