from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from filbert.core import jobs, paths
from filbert.core.errors import BadInput, Cancelled
from filbert.core.jobs import Job, Progress


def counting(to: int) -> Job[str]:
    for number in range(to):
        yield Progress("counting", number + 1, to, "number")
    return "counted"


def failing() -> Job[None]:
    yield Progress("trying")
    raise BadInput("It broke.")


def stories() -> list[dict[str, Any]]:
    return [json.loads((folder / "job.json").read_text()) for folder in sorted(paths.jobs_folder().iterdir())]


def test_a_job_gives_its_value_and_tells_whoever_watches() -> None:
    seen: list[Progress] = []
    assert jobs.run("count", {"to": 3}, counting(3), seen.append) == "counted"
    assert [event.done for event in seen] == [1, 2, 3]


def test_a_jobs_folder_holds_what_it_was_and_how_it_went() -> None:
    jobs.run("count", {"to": 3}, counting(3), lambda event: None)
    (story,) = stories()
    assert (story["kind"], story["about"], story["state"], story["pid"]) == ("count", {"to": 3}, "done", os.getpid())
    lines = (paths.jobs_folder() / story["id"] / "events.jsonl").read_text().splitlines()
    first, last = json.loads(lines[0]), json.loads(lines[-1])
    assert first["step"] == "counting"
    assert (last["done"], last["total"], last["unit"]) == (3, 3, "number")


def test_the_first_event_of_every_step_is_kept_however_fast_they_come() -> None:
    def steps() -> Job[None]:
        for step in "abc":
            yield from (Progress(step, done, 1000) for done in range(100))

    jobs.run("steps", {}, steps(), lambda event: None)
    (story,) = stories()
    lines = (paths.jobs_folder() / story["id"] / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == ["a", "b", "c"]


def test_a_job_that_fails_raises_and_says_so_in_its_folder() -> None:
    with pytest.raises(BadInput, match="It broke"):
        jobs.run("break", {}, failing(), lambda event: None)
    (story,) = stories()
    assert (story["state"], story["error"]) == ("failed", "It broke.")


def test_a_job_whose_watcher_is_interrupted_is_cancelled_and_its_generator_closed() -> None:
    closed = []

    def careful() -> Job[None]:
        try:
            yield Progress("working")
        finally:
            closed.append(True)

    def interrupt(event: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jobs.run("careful", {}, careful(), interrupt)
    assert closed
    assert stories()[0]["state"] == "cancelled"


def test_sigterm_cancels_a_job(home: Path) -> None:
    script = """
import time
from filbert.core import jobs
from filbert.core.errors import Cancelled
from filbert.core.jobs import Progress
def forever():
    while True:
        yield Progress("waiting")
        time.sleep(0.05)
try:
    jobs.run("wait", {}, forever(), lambda event: print(event.step, flush=True))
except Cancelled:
    print("cancelled", flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=30)
    assert said.splitlines()[-1] == "cancelled"
    assert stories()[0]["state"] == "cancelled"


def test_sigterm_means_what_it_meant_before_once_a_job_is_over() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Cancelled), jobs.terminated_as_cancelled():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def old_job(name: str, story: str | None) -> Path:
    folder = paths.jobs_folder() / f"20200101T000000-{name}"
    folder.mkdir(parents=True)
    if story is not None:
        (folder / "job.json").write_text(story)
    return folder


def test_old_jobs_are_forgotten_also_where_their_story_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "KEPT", 2)
    gone = [
        old_job("a", '{"state": "done", "pid": 1}'),
        old_job("b", '{"state": "runn'),
        old_job("c", "[]"),
        old_job("d", None),
        old_job("e", '{"state": "running", "pid": 4194999}'),  # past every pid of Linux: it was killed
    ]
    alive = old_job("f", json.dumps({"state": "running", "pid": os.getpid()}))
    for _ in range(3):
        jobs.run("count", {}, counting(1), lambda event: None)
    assert not any(folder.exists() for folder in gone)
    assert alive.exists()
    assert len(list(paths.jobs_folder().iterdir())) == 3


def test_a_job_runs_where_its_story_cannot_be_kept(home: Path) -> None:
    home.mkdir()
    (home / "jobs").write_text("a file where the folder should be")
    assert jobs.run("count", {}, counting(2), lambda event: None) == "counted"
