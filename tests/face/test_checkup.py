from __future__ import annotations

import pytest

from filbert.engine.threads import bundled_runtime
from filbert.face.checkup import checkup


@pytest.mark.parametrize(
    ("setting", "bundled"), [("bundled", True), ("system", False), ("nonsense", True)], ids=lambda value: str(value)
)
def test_the_engine_is_tried_with_the_runtime_models_are_loaded_with(
    monkeypatch: pytest.MonkeyPatch, setting: str, bundled: bool
) -> None:
    monkeypatch.setenv("FILBERT_LOAD_OPENMP", setting)
    folder = bundled_runtime()
    assert folder
    assert any(path.startswith(str(folder.resolve())) for path in checkup().engine.openmp) is bundled
