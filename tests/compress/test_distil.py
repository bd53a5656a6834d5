"""Files that are trained: the same bytes but for scales and vectors, and nearer to their source."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

import make_tiny
from filbert.compress import distil
from filbert.compress.blocks import SCALES
from filbert.compress.distil import distil_job
from filbert.compress.gradient import windows_of
from filbert.compress.imatrix import Text
from filbert.compress.plan import Source, plan
from filbert.compress.quantise import quantise_job
from filbert.compress.recipe import Recipe, Rule
from filbert.core.errors import EngineCrashed
from filbert.core.files import sha256_of
from filbert.core.jobs import Progress, finish
from filbert.engine.divergence import Divergence
from filbert.engine.load_options import LoadOptions
from filbert.engine.load_plan import LoadPlan
from filbert.models.gguf import check_split, read_header
from filbert.models.gguf_types import TENSOR_TYPES
from filbert.models.gguf_write import TYPE_NUMBERS
from filbert.models.store import in_place

pytestmark = pytest.mark.torch

TEXT = Text("prose", (Path(__file__).parents[1] / "data/war-and-peace.txt").read_text("utf-8")[:12_000])
MIX = Recipe(
    name="mixed",
    type="Q4_0",
    rules=(Rule(tensor="ffn", type="Q4_1"), Rule(tensor="attn_v", type="Q8_0"), Rule(tensor="attn_k", type="F16")),
)


@pytest.fixture
def full(tmp_path: Path) -> LoadPlan:
    return LoadPlan(in_place(make_tiny.dense(tmp_path / "full.gguf")), LoadOptions(threads=1))


@pytest.fixture
def small(full: LoadPlan, tmp_path: Path) -> Path:
    source = Source(full.stored, check_split(full.stored.parts))
    return finish(quantise_job(plan(source, MIX), tmp_path / "small.gguf"))


def trained(full: LoadPlan, small: Path, target: Path, steps: int, watch: object = None) -> Path:
    windows = windows_of(full, [TEXT], 12, 128)
    job = distil_job(full, small, sha256_of(small), target, windows, steps, target.parent / "kept", kept_each_s=0)
    finish(job, watch or (lambda event: None))  # type: ignore[arg-type]
    return target


def kl(full: LoadPlan, file: Path, folder: Path) -> float:
    with Divergence(full, [(TEXT.text, False)], 128, 8, folder / "logits") as divergence:
        windows = finish(divergence.of(LoadPlan(in_place(file), full.options)))[0]
    return float(np.mean([np.mean(np.array(window.kl, np.float64)) for window in windows]))


def test_without_a_step_it_is_the_same_file(full: LoadPlan, small: Path, tmp_path: Path) -> None:
    assert trained(full, small, tmp_path / "same.gguf", 0).read_bytes() == small.read_bytes()


def test_it_comes_nearer_to_its_source_by_scales_and_vectors_alone(
    full: LoadPlan, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distil, "RATES", {"gain": 1e-3, "scale": 1e-3, "minimum": 1e-2})
    file = trained(full, small, tmp_path / "trained.gguf", 60)
    assert kl(full, file, tmp_path) < 0.95 * kl(full, small, tmp_path)
    before, after = small.read_bytes(), file.read_bytes()
    assert len(after) == len(before)
    for tensor in read_header(small).tensors:
        was, now = (np.frombuffer(data, np.uint8, tensor.size_bytes, tensor.offset) for data in (before, after))
        if tensor.type in SCALES:
            block = TENSOR_TYPES[TYPE_NUMBERS[tensor.type]].size_bytes
            changed = set(np.unique(np.flatnonzero(was != now) % block))
            at = {start + i for start in SCALES[tensor.type] if start is not None for i in (0, 1)}
            assert changed
            assert changed <= at, tensor.name
        elif len(tensor.shape) > 1:
            assert (was == now).all(), tensor.name
    start = read_header(small).data_offset
    assert before[:start] == after[:start]


def test_a_killed_run_goes_on_to_the_same_bytes(full: LoadPlan, small: Path, tmp_path: Path) -> None:
    whole = trained(full, small, tmp_path / "whole.gguf", 8)
    target = tmp_path / "killed.gguf"
    seen: list[float] = []

    def kill(event: Progress) -> None:
        if event.done == 5:
            os.kill(child_with(target.with_name(f".{target.name}.part.pt")), signal.SIGKILL)

    with pytest.raises(EngineCrashed):
        trained(full, small, target, 8, kill)
    assert not target.exists()
    trained(full, small, target, 8, lambda event: seen.append(event.done))
    assert min(seen) > 3
    assert target.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob(".killed*.pt"))


def child_with(state: Path) -> int:
    """The process that was told of this file: its parent's children are asked for their command."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    found = [int(pid) for pid in children if b"distil_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(found) == 1, state
    return found[0]
