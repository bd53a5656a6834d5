"""Sensitivities by gradients: what they foretell is what swaps in the engine measure."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import make_tiny
from filbert.compress import gradient
from filbert.compress.extra import need_extra
from filbert.compress.gradient import gradient_job, windows_of
from filbert.compress.imatrix import Text
from filbert.compress.plan import Source
from filbert.compress.prepare import Asked, table_job
from filbert.core.errors import BadInput, EngineCrashed
from filbert.core.jobs import Progress, finish
from filbert.engine.divergence import Divergence
from filbert.engine.load_options import LoadOptions
from filbert.engine.load_plan import LoadPlan
from filbert.engine.quantiser import Rounding
from filbert.models.store import in_place

TEXT = Text("prose", (Path(__file__).parents[1] / "data/war-and-peace.txt").read_text("utf-8")[:12_000])
TYPES = ("Q4_0", "Q5_1", "Q8_0")


@pytest.fixture
def full(tmp_path: Path) -> LoadPlan:
    return LoadPlan(in_place(make_tiny.dense(tmp_path / "full.gguf")), LoadOptions(threads=1))


def test_without_torch_the_command_that_adds_it_is_told() -> None:
    with pytest.raises(BadInput, match=r"no_such_module is not installed. `pip install 'filbert\[convert\]'"):
        need_extra("A better file", ("sys", "no_such_module"))


def test_windows_are_of_all_texts_and_no_longer_than_asked(full: LoadPlan) -> None:
    found = windows_of(full, [TEXT, Text("other", "The end. " * 400)], 7, 64)
    assert [len(window) for window in found] == [64] * 7
    assert found == windows_of(full, [TEXT, Text("other", "The end. " * 400)], 7, 64)
    with pytest.raises(BadInput, match="less than 64 tokens"):
        windows_of(full, [Text("short", "Too short.")], 7, 64)


@pytest.mark.torch
def test_what_is_foretold_of_a_tensor_is_what_a_swap_measures(full: LoadPlan, tmp_path: Path) -> None:
    windows = windows_of(full, [TEXT], 16, 128)
    found = finish(gradient_job(full, None, TYPES, windows, tmp_path / "kept"))
    assert found.maker == "gradient"
    assert not (tmp_path / "kept").exists()
    tensors = {tensor.name: tensor for tensor in full.header.tensors}
    assert found.losses.keys() == {name for name, tensor in tensors.items() if len(tensor.shape) > 1}
    with Divergence(full, [(TEXT.text, False)], 128, 8, tmp_path / "logits") as divergence:
        for role in ("ffn_up", "ffn_down", "attn_v", "token_embd"):
            together = [name for name in found.losses if role in name]
            roundings = [Rounding(tensors[name], full.stored.path, "Q4_0", None) for name in together]
            measured = float(finish(divergence.swapped(roundings)).mean())
            foretold = sum(found.losses[name]["Q4_0"] for name in together)
            assert foretold == pytest.approx(measured, rel=0.35), role
    for each in found.losses.values():
        assert each["Q4_0"] > each["Q5_1"] > each["Q8_0"] > 0


@pytest.mark.torch
def test_a_killed_run_goes_on_with_the_gradients_it_has(full: LoadPlan, tmp_path: Path) -> None:
    windows = windows_of(full, [TEXT], 64, 64)
    whole = finish(gradient_job(full, None, TYPES, windows, tmp_path / "whole"))
    kept, seen, killed = tmp_path / "kept", [], []

    def kill(event: Progress) -> None:
        """Once: what it had said before is heard after it is dead."""
        if event.step == "gradients" and event.done >= 1024 and not killed:
            killed.append(child_of(kept))
            os.kill(killed[0], signal.SIGKILL)

    with pytest.raises(EngineCrashed):
        finish(gradient_job(full, None, TYPES, windows, kept), kill)
    assert (kept / "gradients.json").exists()
    found = finish(gradient_job(full, None, TYPES, windows, kept), lambda event: seen.append(event))
    assert found == whole
    assert min(event.done for event in seen if event.step == "gradients") > 512


@pytest.mark.torch
def test_a_network_that_is_not_the_engines_is_not_believed(
    full: LoadPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = windows_of(full, [TEXT], 2, 64)
    monkeypatch.setattr(gradient, "CLOSE", 1e-9)  # nats: as if it computed something else
    with pytest.raises(BadInput, match="nats a token from the engine's"):
        finish(gradient_job(full, None, TYPES, windows, tmp_path / "kept"))


@pytest.mark.torch
def test_an_architecture_that_it_does_not_know_is_refused_and_left_to_swaps(tmp_path: Path) -> None:
    stored = in_place(make_tiny.experts(tmp_path / "experts.gguf"))
    full = LoadPlan(stored, LoadOptions(threads=1))
    windows = windows_of(full, [TEXT], 2, 64)
    with pytest.raises(BadInput, match="--sensitivity swap"):
        finish(gradient_job(full, None, TYPES, windows, tmp_path / "kept"))
    found = finish(table_job(Asked(Source(stored, full.headers), full.options, [TEXT], None, "auto", TYPES)))
    assert found.sensitivity.maker == "swap"


def child_of(folder: Path) -> int:
    """The process that has the gradients open."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder / "gradients") in (process / "maps").read_text():
                return int(process.name)
        except OSError:
            continue
    raise AssertionError("no child has it open")
