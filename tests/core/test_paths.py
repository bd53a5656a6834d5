from __future__ import annotations

from pathlib import Path
from typing import Any

from filbert.core import paths


def test_one_variable_moves_everything(home: Path) -> None:
    for path in (
        paths.data_folder(),
        paths.models_folder(),
        paths.jobs_folder(),
        paths.config_file(),
        paths.log_file(),
    ):
        assert path.is_relative_to(home)


def test_without_it_the_platforms_own_folders_are_used(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.delenv("FILBERT_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert paths.home() is None
    assert paths.data_folder().is_relative_to(tmp_path)
    assert paths.config_file().is_relative_to(tmp_path)
    assert "filbert" in str(paths.log_file())


def test_a_home_with_a_tilde_is_the_persons_own(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FILBERT_HOME", "~/nuts")
    assert paths.data_folder() == tmp_path / "nuts"
