"""`filbert publish` against a hub on this machine that takes commits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from terminal import Run

import make_tiny
from filbert.compress.plan import Source, plan
from filbert.compress.recipe import stock
from filbert.compress.release import release_job
from filbert.core.jobs import finish
from filbert.models.gguf import check_split
from filbert.models.store import in_place
from models.model_servers import UploadHub, serving

REPO = "nuts/tiny-GGUF"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    stored = in_place(make_tiny.dense(folder / "tiny.gguf"))
    source = Source(stored, check_split(stored.parts))
    plans = {f"tiny-{kind}.gguf": plan(source, stock(kind)) for kind in ("Q8_0", "Q4_0")}
    finish(release_job(plans, folder / "release", {}))
    return folder / "release"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[UploadHub]:
    server = UploadHub()
    with serving(server):
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("HF_TOKEN", "right")
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")  # whose store is another server, with a protocol of its own
        yield server


def test_a_release_goes_up_whole(hub: UploadHub, made: Path, filbert: Run) -> None:
    (made / "notes.txt").write_text("mine alone")
    done = filbert("publish", str(made), f"hf:{REPO}", "--yes", "--private")
    assert done.stdout.splitlines()[-1] == f"{hub.url}/{REPO}"
    there = hub.repos[REPO]
    assert set(there) == {file.name for file in made.iterdir()} - {"notes.txt"}
    assert all(there[name] == (made / name).read_bytes() for name in there)
    assert hub.private == {REPO}
    n_objects = len([path for path in hub.taken if path.startswith("/lfs/")])
    assert n_objects == 2
    again = filbert("publish", str(made), f"hf:{REPO}", "--yes")
    assert again.returncode == 0
    assert len([path for path in hub.taken if path.startswith("/lfs/")]) == n_objects  # it was there


def test_nothing_goes_up_unasked(hub: UploadHub, made: Path, filbert: Run) -> None:
    dry = filbert("publish", str(made), f"hf:{REPO}", "--dry-run")
    assert dry.returncode == 0
    assert "tiny-Q8_0.gguf" in dry.stdout
    asked = filbert("publish", str(made), f"hf:{REPO}")
    assert asked.returncode == 2
    assert "Nothing was uploaded. Nobody could be asked. Add --yes." in asked.stderr
    assert hub.taken == []


@pytest.mark.parametrize(
    ("variables", "status", "why"),
    [
        ({"HF_TOKEN": "wrong"}, 2, "may not write to nuts/tiny-GGUF. The hub answered 401."),
        ({"HF_TOKEN": ""}, 2, "The hub does not know who you are."),
        ({"FILBERT_OFFLINE": "1"}, 3, "The network is forbidden"),
        ({"HF_HUB_OFFLINE": "1"}, 3, "HF_HUB_OFFLINE forbids the hub"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, 4, "cannot be reached"),
    ],
)
def test_what_stands_in_the_way_is_a_sentence(
    variables: dict[str, str],
    status: int,
    why: str,
    hub: UploadHub,
    made: Path,
    filbert: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = filbert("publish", str(made), f"hf:{REPO}", "--yes")
    assert done.returncode == status
    assert why in done.stderr
    assert "Traceback" not in done.stderr
    assert REPO not in hub.repos


def test_a_hub_that_fails_in_the_middle_is_told(hub: UploadHub, made: Path, filbert: Run) -> None:
    hub.broken = f"/api/models/{REPO}/commit/main"
    done = filbert("publish", str(made), f"hf:{REPO}", "--yes")
    assert done.returncode == 4
    assert "was not uploaded. The hub answered 500. Run it again" in done.stderr


def test_what_is_no_release_is_refused(hub: UploadHub, made: Path, filbert: Run, tmp_path: Path) -> None:
    assert "is no release" in filbert("publish", str(tmp_path), f"hf:{REPO}", "--yes").stderr
    assert "Write it as hf:owner/repo" in filbert("publish", str(made), "smollm2:135m", "--yes").stderr
    changed = tmp_path / "changed"
    changed.mkdir()
    for file in made.iterdir():
        (changed / file.name).write_bytes(file.read_bytes())
    with (changed / "tiny-Q8_0.gguf").open("ab") as file:
        file.write(b"more")
    assert "has changed since it was made" in filbert("publish", str(changed), f"hf:{REPO}", "--yes").stderr
    (changed / "tiny-Q4_0.md").unlink()
    assert "lacks tiny-Q4_0.md" in filbert("publish", str(changed), f"hf:{REPO}", "--yes").stderr
    assert hub.taken == []
