"""Importance matrices: llama.cpp's, read and written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gguf
import numpy as np
import pytest

from filbert.compress.imatrix import ImportanceMatrix, Text, conversations, imatrix_job, read_imatrix
from filbert.compress.plan import Source, plan
from filbert.compress.recipe import stock
from filbert.core.errors import BadInput, BadModelFile
from filbert.core.jobs import finish
from filbert.core.pairs import read_pairs
from filbert.core.settings import checked
from filbert.engine.load_options import LoadOptions
from filbert.engine.load_plan import LoadPlan
from filbert.engine.model import Model
from filbert.models.gguf import read_header
from filbert.models.store import in_place
from shapes import FAMILIES, some_imatrix

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/imatrix.json").read_text())


def plan_of(file: Path, threads: int = 2) -> LoadPlan:
    return LoadPlan(in_place(file), checked(LoadOptions, {"threads": threads}))


def sums(file: Path) -> dict[str, np.ndarray]:
    return {tensor.name: np.array(tensor.data) for tensor in gguf.GGUFReader(file).tensors}


def test_sums_are_those_of_llama_imatrix(matrix: ImportanceMatrix) -> None:
    """Of the same model, text and windows: the mean and the largest square of each matrix (tools/record_imatrix.py)."""
    found = sums(matrix.path)
    for name, (mean, largest, count) in GOLDEN.items():
        squares = found[f"{name}.in_sum2"]
        assert float(found[f"{name}.counts"][0, 0]) == count
        assert float(squares.mean()) == pytest.approx(mean, rel=2e-3), name
        assert float(squares.max()) == pytest.approx(largest, rel=2e-3), name


def test_it_covers_what_is_quantised_the_output_too(source: Source, matrix: ImportanceMatrix) -> None:
    made = plan(source, stock("Q4_K_M"), matrix)
    assert made.uncovered == []
    assert len(matrix.names) == 211
    assert matrix.n_windows == 6
    known = [tensor for tensor in source.headers[0].tensors if tensor.name in matrix.names]
    assert all(matrix.of(tensor) for tensor in known)


def test_what_it_does_not_cover_is_told(source: Source, tmp_path: Path) -> None:
    some = read_imatrix(some_imatrix(tmp_path / "some.gguf", {"blk.0.attn_q.weight": 576}))
    made = plan(source, stock("Q4_K_M"), some)
    assert len(made.uncovered) == 210
    (gap,) = made.gaps
    assert gap.startswith("some.gguf knows nothing of 210 of 211 tensors, which are rounded as without one: token_embd")


def test_experts_that_saw_few_tokens_are_told(tmp_path: Path) -> None:
    file = FAMILIES["mixtral"].write(tmp_path / "experts.gguf")
    name = "blk.0.ffn_up_exps.weight"
    tensor = next(tensor for tensor in read_header(file).tensors if tensor.name == name)
    row, _, experts = tensor.shape
    counts = np.full((experts, 1), 1000, np.float32)
    counts[0], counts[1] = 0, 9
    writer = gguf.GGUFWriter(tmp_path / "imatrix.gguf", "")
    writer.add_type("imatrix")
    writer.add_tensor(f"{name}.in_sum2", np.ones((experts, row), np.float32))
    writer.add_tensor(f"{name}.counts", counts)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (gap,) = read_imatrix(tmp_path / "imatrix.gguf").gaps([tensor])
    assert gap.startswith(f"Of {experts} matrices of experts, 2 saw less than 64 tokens of its text, 1 of them none")


@pytest.mark.slow
def test_a_killed_run_goes_on(full: Path, words: str, matrix: ImportanceMatrix, tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    code = (
        "import sys; from pathlib import Path; from filbert.compress.imatrix import *; from filbert.core.jobs import finish;"
        "from filbert.core.settings import checked; from filbert.engine.load_options import LoadOptions;"
        "from filbert.engine.load_plan import LoadPlan; from filbert.models.store import in_place;"
        "p = LoadPlan(in_place(Path(sys.argv[1])), checked(LoadOptions, {'threads': 2}));"
        "[print(e.done, flush=True) for e in imatrix_job(p, [Text('war-and-peace.txt', sys.stdin.read())], 256, Path(sys.argv[2]), kept_each_s=0)]"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, full, target], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin
    assert child.stdout
    child.stdin.write(words[:6000])
    child.stdin.close()
    while child.stdout.readline().strip() != "3" and child.poll() is None:
        pass
    part = tmp_path / ".out.gguf.part"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    time.sleep(1.5)  # its own child sees that it is gone
    assert not target.exists()
    assert part.exists()
    events = []
    made = finish(imatrix_job(plan_of(full), [Text("war-and-peace.txt", words[:6000])], 256, target), events.append)
    assert events[0].done > 1
    for name, values in sums(matrix.path).items():
        np.testing.assert_allclose(sums(made.path)[name], values, rtol=1e-5)


def test_chats_are_read_as_the_template_writes_them(starter: Path) -> None:
    pairs = read_pairs('{"prompt": "Say a.", "response": "a"}\n{"prompt": "Say b.", "response": "b"}', "pairs.jsonl")
    with Model(in_place(starter), LoadOptions()) as model:
        text = conversations(model, pairs, "pairs.jsonl")
    assert text.special
    assert text.text.count("<|im_start|>assistant\n") == 2
    assert text.text.endswith("<|im_start|>user\nSay b.<|im_end|>\n<|im_start|>assistant\nb")


@pytest.mark.parametrize(
    ("text", "window", "why"), [("too short", 256, "less than 256 tokens"), ("x " * 99, 8, "too short")]
)
def test_what_cannot_be_is_a_sentence(text: str, window: int, why: str, full: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=why):
        finish(imatrix_job(plan_of(full), [Text("text", text)], window, tmp_path / "out.gguf"))
    assert not (tmp_path / "out.gguf").exists()


def test_what_is_no_importance_matrix_is_told(full: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no importance matrix"):
        read_imatrix(full)
    (tmp_path / "text").write_text("no GGUF")
    with pytest.raises(BadModelFile):
        read_imatrix(tmp_path / "text")
