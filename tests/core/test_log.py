from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from filbert.core import log, paths


@pytest.fixture(autouse=True)
def quiet_afterwards() -> Iterator[None]:
    logger = logging.getLogger(log.ROOT)
    handlers, level, propagate = list(logger.handlers), logger.level, logger.propagate
    yield
    for handler in set(logger.handlers) - set(handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(level)
    logger.propagate = propagate


def test_the_log_is_written_at_its_level_and_above() -> None:
    log.to_file("INFO")
    logging.getLogger("filbert.engine").info("loaded")
    logging.getLogger("filbert.engine").debug("details")
    text = paths.log_file().read_text()
    assert "loaded" in text
    assert "details" not in text


def test_the_log_rotates_and_keeps_five_files() -> None:
    log.to_file("INFO")
    for _ in range(70):
        log.log.info("x" * 100_000)
    files = sorted(paths.log_file().parent.iterdir())
    assert [file.name for file in files] == ["filbert.log", *(f"filbert.log.{number}" for number in range(1, 5))]
    assert all(file.stat().st_size <= log.FILE_BYTES for file in files)


def test_a_store_that_cannot_be_written_has_no_log_and_works(home: Path) -> None:
    home.mkdir()
    (home / "log").write_text("a file where the folder should be")
    log.to_file("INFO")
    log.log.info("nothing happens")
    assert not paths.log_file().exists()


@pytest.mark.root
def test_a_full_disk_costs_log_lines_and_no_traceback(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FILBERT_HOME", str(small_disk))
    log.to_file("INFO")
    (small_disk / "hog").write_bytes(b"\0" * 2_900_000)
    for _ in range(10):
        log.log.info("x" * 100_000)
    assert "Traceback" not in capfd.readouterr().err


def test_a_log_that_is_switched_on_twice_has_each_line_once() -> None:
    log.to_file("INFO")
    log.to_file("DEBUG")
    log.log.debug("details")
    assert paths.log_file().read_text().count("details") == 1
