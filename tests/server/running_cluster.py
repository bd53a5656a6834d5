"""`serve run` upon a real Ray cluster of two machines, which are two nodes of this one."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from running_server import WAIT_S

NODES = Path(__file__).with_name("cluster_nodes.py")


class RunningCluster:
    """folder: where it writes, of a short path, for Ray's sockets lie in it."""

    def __init__(self, home: Path, folder: Path) -> None:
        self._folder = folder
        self._environment = {
            **os.environ,
            "FILBERT_HOME": str(home),
            "RAY_TMPDIR": str(folder),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # where Ray listens at 127.0.0.1 when it is told so
            "RAY_memory_monitor_refresh_ms": "0",
        }
        self._started: list[subprocess.Popen[str]] = []

    def start(self) -> None:
        said = self._run([sys.executable, str(NODES)]).stdout
        assert said
        line = said.readline()
        assert line, self.said()
        found = json.loads(line)
        self.address, self.nodes = found["address"], [psutil.Process(pid) for pid in found["nodes"]]

    def serve(self, prefix: str, **arguments: Any) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        config = {
            "proxy_location": "HeadOnly",  # or both nodes would listen at this port
            "http_options": {"host": "127.0.0.1", "port": port},
            "applications": [{"route_prefix": prefix, "import_path": "filbert.server.cluster:app", "args": arguments}],
        }
        file = self._folder / "cluster.yaml"
        file.write_text(json.dumps(config))
        serve = str(Path(sys.executable).with_name("serve"))
        self.serving = self._run([serve, "run", "--address", self.address, str(file)])
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}{prefix}", timeout=WAIT_S)

    def _run(self, command: list[str]) -> subprocess.Popen[str]:
        with (self._folder / f"{len(self._started)}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if not self._started else log,
                stderr=log,
                text=True,
            )
        self._started.append(process)
        return process

    def said(self) -> str:
        return "\n".join(log.read_text("utf-8", "replace") for log in sorted(self._folder.glob("*.log")))

    def end(self) -> None:
        for process in self._started:
            if process.poll() is None:
                kill(tree(psutil.Process(process.pid)))
            process.communicate()


def tree(root: psutil.Process) -> list[psutil.Process]:
    """A process and all that descend from it."""
    return [root, *root.children(recursive=True)]


def workers(node: psutil.Process) -> list[psutil.Process]:
    """The processes of a node that hold a model."""
    return [each for each in tree(node) if holds_model(each)]


def holds_model(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return any(word.endswith("worker_main.py") for word in process.cmdline())
    return False


def kill(found: list[psutil.Process]) -> None:
    for process in found:
        with suppress(psutil.NoSuchProcess):
            process.kill()


@contextmanager
def clustered(home: Path) -> Iterator[RunningCluster]:
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    cluster = RunningCluster(home, folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.end()
        shutil.rmtree(folder, ignore_errors=True)
