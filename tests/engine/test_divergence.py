"""How far models are from a full one: swaps in memory against files, files against `fidelity`, and what goes wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import make_tiny
from filbert.core.errors import BadInput, BadModelFile, DiskFull, EngineCrashed
from filbert.core.jobs import Progress, finish
from filbert.core.settings import checked
from filbert.engine.divergence import KEEP, Divergence
from filbert.engine.kept_logits import beside, keep, kept, said
from filbert.engine.likelihood import side_by_side
from filbert.engine.load_options import LoadOptions
from filbert.engine.load_plan import LoadPlan
from filbert.engine.quantiser import Rounding
from filbert.engine.side_by_side import SideBySide
from filbert.models.gguf import read_header
from filbert.models.store import in_place

WORDS = (Path(__file__).parents[1] / "data/war-and-peace.txt").read_text("utf-8")
TEXTS = [(WORDS[:3000], False), (WORDS[3000:6000], False)]
WINDOW = 64
DOWN = ["blk.0.ffn_down.weight", "blk.1.ffn_down.weight"]
ROWS = arrays(np.float32, (3, 7), elements=st.floats(-12, 12, width=32))


def plan_of(file: Path) -> LoadPlan:
    return LoadPlan(in_place(file), checked(LoadOptions, {"threads": 2}))


def opened(file: Path, folder: Path, texts: list[tuple[str, bool]] = TEXTS, most: int = 3) -> Divergence:
    return Divergence(plan_of(file), texts, WINDOW, most, folder)


def roundings(file: Path, names: list[str], kind: str = "Q4_0") -> list[Rounding]:
    return [Rounding(tensor, file, kind, None) for tensor in read_header(file).tensors if tensor.name in names]


def rounded(source: Path, target: Path, names: list[str], kind: str = "Q4_0") -> Path:
    """A file of the same types in which these tensors hold what the other type makes of them."""
    reader = gguf.GGUFReader(source)
    parts = make_tiny.dense_parts()
    parts.metadata |= {
        key: reader.fields[key].contents() for key in reader.fields if "expert" in key or key.startswith("llama.")
    }
    parts.tensors = {tensor.name: tensor.data for tensor in reader.tensors}
    for name in names:
        stored = gguf.quants.quantize(parts.tensors[name], Type[kind])
        parts.tensors[name] = gguf.quants.dequantize(stored, Type[kind])
    make_tiny.write(target, parts)
    return target


def mean(windows: list[list]) -> list[float]:
    return [float(np.mean(window.kl)) for text in windows for window in text]


@pytest.fixture
def full(tmp_path: Path) -> Path:
    return make_tiny.dense(tmp_path / "full.gguf")


# What is kept


@given(logits=ROWS, base=ROWS)
def test_what_is_kept_gives_the_same_divergence(logits: np.ndarray, base: np.ndarray) -> None:
    targets = [0, 3, 6]
    found, exact = beside(logits, said(base, targets), targets), side_by_side(logits, base, np.array(targets))
    assert found.kl == pytest.approx(exact.kl, rel=1e-3, abs=1e-5)
    assert found.nll == pytest.approx(exact.nll, abs=1e-5)
    assert found.base_nll == pytest.approx(exact.base_nll, abs=1e-5)
    assert list(found.same) == list(exact.same)
    assert beside(base, said(base, targets), targets).kl.max() < 1e-6


def test_a_nan_stays_one_on_either_side() -> None:
    rows = np.zeros((2, 5), np.float32)
    rows[1, 3] = np.nan
    fine = np.zeros((2, 5), np.float32)
    for found in (beside(rows, said(fine, [0, 0]), [0, 0]), beside(fine, said(rows, [0, 0]), [0, 0])):
        assert found.kl[0] == pytest.approx(0, abs=1e-6)
        assert np.isnan(found.kl[1])


def test_a_file_holds_what_was_said(tmp_path: Path) -> None:
    logits = np.random.default_rng(0).standard_normal((5, 9)).astype(np.float32)
    parts = [said(logits[:2], [0, 1]), said(logits[2:], [2, 3, 4])]
    keep(tmp_path / "kept", parts)
    whole, found = said(logits, [0, 1, 2, 3, 4]), kept(tmp_path / "kept", 5, 9)
    assert (found.log_p == whole.log_p).all()
    assert list(found.nll) == list(whole.nll)
    assert list(found.top) == list(whole.top)


# Swaps


def test_nothing_is_lost_when_nothing_is_swapped_nor_once_it_is_put_back(full: Path, tmp_path: Path) -> None:
    with opened(full, tmp_path / "kept") as divergence:
        before = finish(divergence.swapped([]))
        between = finish(divergence.swapped(roundings(full, [*DOWN, "token_embd.weight"])))
        after = finish(divergence.swapped([]))
    assert before.shape == (6,)
    assert before.max() < 1e-6
    assert between.min() > 1e-4
    assert list(after) == list(before)


@pytest.mark.parametrize("names", [DOWN, ["blk.0.attn_v.weight"], ["token_embd.weight"]], ids=lambda names: names[0])
def test_a_swap_loses_what_a_file_would(names: list[str], full: Path, tmp_path: Path) -> None:
    """The embedding is the output too: both change."""
    file = rounded(full, tmp_path / "rounded.gguf", names)
    with opened(full, tmp_path / "kept") as divergence:
        swapped = finish(divergence.swapped(roundings(full, names)))
        assert swapped == pytest.approx(mean(finish(divergence.of(plan_of(file)))), rel=0.02, abs=1e-6)


def test_experts_are_swapped_whether_or_not_a_token_comes_to_them(tmp_path: Path) -> None:
    full, names = make_tiny.experts(tmp_path / "full.gguf"), ["blk.0.ffn_up_exps.weight", "blk.1.ffn_down_exps.weight"]
    file = rounded(full, tmp_path / "rounded.gguf", names)
    with opened(full, tmp_path / "kept") as divergence:
        swapped = finish(divergence.swapped(roundings(full, names)))
        assert swapped.min() > 1e-5
        assert swapped == pytest.approx(mean(finish(divergence.of(plan_of(file)))), rel=0.02, abs=1e-6)


@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_a_model_in_half_precision_loses_as_much(kind: str, full: Path, tmp_path: Path) -> None:
    half = make_tiny.quantised(tmp_path / "half.gguf", kind)
    found = []
    for file in (full, half):
        with opened(file, tmp_path / "kept") as divergence:
            found.append(finish(divergence.swapped(roundings(file, DOWN))).mean())
    assert found[1] == pytest.approx(found[0], rel=0.1)


def test_weights_that_are_no_numbers_are_told_and_the_next_swap_is_right(tmp_path: Path) -> None:
    parts = make_tiny.dense_parts()
    parts.tensors["output.weight"] = parts.tensors["token_embd.weight"].copy()
    parts.tensors["token_embd.weight"][parts.metadata["tokenizer.ggml.tokens"].index("<|im_end|>")] = np.nan
    make_tiny.write(tmp_path / "full.gguf", parts)
    with opened(tmp_path / "full.gguf", tmp_path / "kept") as divergence:
        with pytest.raises(BadInput, match="no numbers"):
            finish(divergence.swapped(roundings(tmp_path / "full.gguf", ["token_embd.weight"])))
        assert finish(divergence.swapped([])).max() < 1e-6


# Files


def test_a_file_is_as_far_as_fidelity_finds_it(full: Path, tmp_path: Path) -> None:
    small = make_tiny.quantised(tmp_path / "small.gguf", "Q4_0")
    with opened(full, tmp_path / "kept", most=99) as divergence:
        windows, others = finish(divergence.of(plan_of(small)))
    with SideBySide(plan_of(small), plan_of(full), WINDOW) as pair:
        expected = finish(pair.scorer.fidelity(TEXTS[0][0], WINDOW, every_token=True))
    assert len(windows) == len(expected)
    assert others
    assert others[0].kl != windows[0].kl
    for found, known in zip(windows, expected, strict=True):
        assert len(found.kl) == WINDOW - 1
        assert np.mean(found.kl) == pytest.approx(np.mean(known.kl), rel=0.01)
        assert found.nll == pytest.approx(known.nll, abs=1e-3)
        assert found.base_nll == pytest.approx(known.base_nll, abs=1e-3)
        assert found.same == known.same


def test_what_is_kept_serves_a_file_without_the_full_model(full: Path, tmp_path: Path) -> None:
    with opened(full, tmp_path / "kept") as divergence:
        finish(divergence.swapped([]))
    with opened(full, tmp_path / "kept") as divergence:
        events: list[Progress] = []
        finish(divergence.of(plan_of(full)), events.append)
        assert divergence.identity == opened(full, tmp_path / "kept").identity
    assert KEEP not in {event.step for event in events}


# What goes wrong


@pytest.mark.slow
def test_a_killed_run_goes_on(full: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[3]); from test_divergence import *;"
        "d = opened(Path(sys.argv[1]), Path(sys.argv[2]), most=30);"
        "[print(e.done, flush=True) for e in d.swapped([])]"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, full, tmp_path / "kept", Path(__file__).parent],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])},
    )
    assert child.stdout
    while (line := child.stdout.readline().strip()) != "4":
        assert line, child.poll()
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    time.sleep(1.5)  # its own child sees that it is gone
    assert not list((tmp_path / "kept").glob("*/windows.json"))
    events: list[Progress] = []
    with opened(full, tmp_path / "kept", most=30) as divergence:
        assert finish(divergence.swapped([]), events.append).max() < 1e-6
    assert events[0].step == KEEP
    assert events[0].done >= 4


def test_a_child_that_died_is_told_and_the_next_question_starts_another(full: Path, tmp_path: Path) -> None:
    with opened(full, tmp_path / "kept") as divergence:
        job = divergence.swapped(roundings(full, DOWN))
        next(job)
        assert divergence._child
        os.kill(divergence._child.pid, signal.SIGKILL)
        with pytest.raises(EngineCrashed):
            finish(job)
        assert finish(divergence.swapped([])).max() < 1e-6
        divergence.swapped(roundings(full, DOWN)).close()
        left = divergence.swapped(roundings(full, DOWN))
        next(left)
        left.close()
        assert finish(divergence.swapped([])).max() < 1e-6, "what was left in the middle is not put back half"


def test_a_full_model_that_gives_no_numbers(tmp_path: Path) -> None:
    parts = make_tiny.dense_parts()
    parts.tensors["output_norm.weight"][3] = np.nan
    make_tiny.write(tmp_path / "full.gguf", parts)
    with opened(tmp_path / "full.gguf", tmp_path / "kept") as divergence, pytest.raises(BadModelFile, match="NaN"):
        finish(divergence.swapped([]))


def test_a_model_of_another_vocabulary(full: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    make_tiny.write(other, make_tiny.dense_parts(marks=("<think>",)))
    with opened(full, tmp_path / "kept") as divergence, pytest.raises(BadInput, match="different vocabularies"):
        finish(divergence.of(plan_of(other)))


def test_windows_that_cannot_be(full: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="longer than"):
        Divergence(plan_of(full), TEXTS, 4096, 3, tmp_path / "kept")
    with (
        opened(full, tmp_path / "kept", [TEXTS[0], ("short", False)]) as divergence,
        pytest.raises(BadInput, match="Text 2 is too short"),
    ):
        finish(divergence.swapped([]))


@pytest.mark.root
def test_a_full_disk_is_told(full: Path, small_disk: Path) -> None:
    with Divergence(plan_of(full), [(WORDS, False)], 1024, 9, small_disk) as divergence, pytest.raises(DiskFull):
        finish(divergence.swapped([]))
    assert not list(small_disk.glob("*/*"))
