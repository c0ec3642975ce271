"""A real server process on a free port, for every test that talks HTTP."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from serving import Server, Start


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts servers with these flags and environment variables; all are gone at the end. `first` is Python to run."""
    started: list[Server] = []

    def run(*flags: str, command: str = "serve", first: str = "", **settings: str) -> Server:
        folder = tmp_path_factory.mktemp("server")
        after = f"{first}; from amused_lite.cli import main; raise SystemExit(main())"
        program = ["-c", after] if first else ["-m", "amused_lite"]
        full = [sys.executable, *program, command, "--port", "0", "--threads", "1", *flags]
        environment = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder / "data"), "TMPDIR": str(folder)}
        environment |= {"XDG_CACHE_HOME": str(folder / "cache"), "PYTHONDONTWRITEBYTECODE": "1", **settings}
        process = subprocess.Popen(
            full,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell's background job is deaf to Ctrl-C, and so would be what the tests start from one.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        if ("--host" in flags or "--forwarded-allow-ips" in flags) and "--token-file" not in flags:
            lines.append(process.stdout.readline())
        if not lines[0].startswith("listening at "):
            process.kill()
            raise AssertionError(process.communicate()[1])
        token = lines[1].removeprefix("token: ").strip() if len(lines) > 1 else ""
        started.append(Server(process, lines[0].removeprefix("listening at ").strip(), token, folder))
        return started[-1]

    yield run
    for server in started:
        if server.process.poll() is None:
            server.process.send_signal(signal.SIGKILL)
        server.process.communicate()


@pytest.fixture(scope="session")
def server(start: Start) -> Server:
    """One that many tests share."""
    return start("--queue", "16")
