from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import make_tiny
from filbert.core.jobs import Progress, finish
from filbert.core.machine import engine_build
from filbert.core.settings import configured
from filbert.engine.calibration import calibrated, is_busy
from filbert.engine.calibration_model import Shape, write
from filbert.engine.load_options import LoadOptions
from filbert.models import speed
from filbert.models.gguf import read_header
from filbert.models.speed import Calibration, predict

MEASURE = """
import psutil
from filbert.core.settings import configured
from filbert.engine.calibration import calibrated
from filbert.engine.load_options import LoadOptions
for _ in calibrated(configured(LoadOptions)):
    pass
print([mapped.path for mapped in psutil.Process().memory_maps() if "xllamacpp" in mapped.path])
"""


@pytest.fixture(scope="module")
def measuring(tmp_path_factory) -> tuple[Calibration, str]:
    """This machine, really measured, once for all tests here; and what of the engine was mapped by who asked for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FILBERT_HOME", str(tmp_path_factory.mktemp("home")))
        done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
        return finish(calibrated(configured(LoadOptions))), done.stdout.strip()


@pytest.fixture
def machine(measuring: tuple[Calibration, str]) -> Calibration:
    return measuring[0]


@pytest.mark.slow
def test_every_common_type_is_measured(machine: Calibration) -> None:
    assert {"F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q5_K", "Q6_K", "MXFP4"} <= set(machine.rates)
    assert all(rate.memory >= rate.cached > 0 and rate.prompt > 0 for rate in machine.rates.values())


@pytest.mark.slow
def test_the_more_is_read_the_more_comes_from_memory(machine: Calibration) -> None:
    sizes, shares = zip(*machine.misses, strict=True)
    assert list(sizes) == sorted(sizes)
    assert list(shares) == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)


@pytest.mark.slow
def test_a_larger_model_is_predicted_to_be_slower(machine: Calibration, starter: Path, tmp_path: Path) -> None:
    small = predict([read_header(make_tiny.dense(tmp_path / "x.gguf"))], machine)
    large = predict([read_header(starter)], machine)
    assert (small.generation or 0) > (large.generation or 0) > 0
    assert small.prompt > large.prompt > 0


@pytest.mark.slow
def test_what_was_measured_is_kept_and_not_measured_again(machine: Calibration, home: Path) -> None:
    speed.keep(machine)
    seen: list[Progress] = []
    assert finish(calibrated(configured(LoadOptions)), seen.append) == machine
    assert seen == []
    assert (machine.engine, machine.threads) == (engine_build(), configured(LoadOptions).threads or machine.threads)


@pytest.mark.slow
def test_what_was_measured_before_is_measured_again_when_asked(machine: Calibration, home: Path) -> None:
    speed.keep(machine)
    job = calibrated(configured(LoadOptions), again=True)
    assert isinstance(next(job), Progress)
    job.close()


@pytest.mark.slow
def test_a_machine_that_was_busy_when_measured_is_told(machine: Calibration) -> None:
    assert is_busy(machine.model_copy(update={"busy_cores": 100.0}))
    assert not is_busy(machine.model_copy(update={"busy_cores": 0.0}))


@pytest.mark.slow
def test_no_native_code_runs_in_the_process_that_asks(measuring: tuple[Calibration, str]) -> None:
    assert measuring[1] == "[]"


@pytest.mark.parametrize("kind", ["F32", "F16", "Q4_K", "MXFP4"])
def test_the_models_it_measures_with_pass_our_own_checks(tmp_path: Path, kind: str) -> None:
    shape = Shape(256, 512, 3, kind)
    header = read_header(write(tmp_path / "x.gguf", shape))
    assert sum(t.count for t in header.tensors if len(t.shape) > 1 and t.name != "token_embd.weight") == shape.weights
    assert len(header.tensors) == shape.tensors
    assert header.vocab_size == shape.vocabulary


def test_a_filled_model_holds_numbers_and_heads_share_keys_as_asked(tmp_path: Path) -> None:
    alone, shared = (Shape(256, 256, 1, sharing=heads, filled=True) for heads in (1, 4))
    assert (alone.kept, shared.kept) == (512, 128)
    path = write(tmp_path / "x.gguf", shared)
    assert read_header(path).kv_head_counts == (1,)
    assert path.read_bytes()[-1000:].strip(b"\0")


def test_a_model_that_speaks_has_a_vocabulary(tmp_path: Path) -> None:
    header = read_header(write(tmp_path / "x.gguf", Shape(64, 64, 1, vocabulary=1024, speaks=True)))
    assert header.vocab_size == len(header.metadata["tokenizer.ggml.tokens"]) == 1024  # type: ignore[arg-type]
