"""Sensitivities by swaps: which tensors are measured together, what is told by them, and going on after a kill."""

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
from gguf import GGMLQuantizationType as Type

import make_tiny
from filbert.compress.imatrix import Text, imatrix_job, read_imatrix
from filbert.compress.plan import Source
from filbert.compress.recipe import quantisable, role_of
from filbert.compress.sensitivity import Sensitivity
from filbert.compress.swap import ERRORS, MOST_SWAPS, fewer, measured_types, roles, swap_job, swaps_of
from filbert.core.errors import BadInput, BadModelFile
from filbert.core.jobs import Progress, finish
from filbert.core.settings import checked
from filbert.engine.divergence import SWAP, Divergence
from filbert.engine.load_options import LoadOptions
from filbert.engine.load_plan import LoadPlan
from filbert.engine.quantiser import Quantiser, Rounding
from filbert.models.gguf import check_split, read_header
from filbert.models.store import in_place
from shapes import FAMILIES, some_imatrix

WORDS = (Path(__file__).parents[1] / "data/war-and-peace.txt").read_text("utf-8")
TYPES = ("Q4_0", "Q5_1", "Q8_0")


def plan_of(file: Path) -> LoadPlan:
    return LoadPlan(in_place(file), checked(LoadOptions, {"threads": 2}))


def source_of(file: Path) -> Source:
    return Source(in_place(file), check_split(in_place(file).parts))


def opened(file: Path, folder: Path) -> Divergence:
    return Divergence(plan_of(file), [(WORDS[:4000], False)], 64, 4, folder)


def found(file: Path, folder: Path, types: tuple[str, ...] = TYPES) -> tuple[Sensitivity, list[Progress]]:
    events: list[Progress] = []
    with opened(file, folder) as divergence:
        return finish(swap_job(divergence, None, types, folder / "swaps.json"), events.append), events


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return make_tiny.dense(tmp_path / "tiny.gguf")


# What is measured


@pytest.mark.parametrize("family", FAMILIES)
def test_each_matrix_is_in_one_band_of_one_role(family: str, tmp_path: Path) -> None:
    source = source_of(FAMILIES[family].write(tmp_path / "model.gguf"))
    found = roles(source, None, ["Q4_0", "Q5_0", "Q8_0", "Q4_K", "F16"])
    names = [tensor.name for role in found for tensor in role.tensors]
    asked = [name for name, (tensor, _) in source.tensors.items() if quantisable(tensor, FAMILIES[family].architecture)]
    assert sorted(names) == sorted(asked)
    assert all(len({role_of(tensor.name) for tensor in role.tensors}) == 1 for role in found)
    errors = {name: dict.fromkeys(("Q4_0", "Q5_0", "Q8_0", "Q4_K", "F16"), 1.0) for name in names}
    swaps = [swap for role in fewer(found, errors) for swap in swaps_of(role, errors)]
    assert len(swaps) <= MOST_SWAPS
    assert len({swap.name for swap in swaps}) == len(swaps)


def test_the_first_blocks_and_the_last_are_told_from_those_between(tmp_path: Path) -> None:
    source = source_of(FAMILIES["llama-135m"].write(tmp_path / "model.gguf"))
    values = next(role for role in roles(source, None, ["Q4_0"]) if role.name.startswith("attn_v"))
    assert [len(band) for band in values.bands] == [4, 11, 12, 3]


def test_types_that_do_not_fit_or_would_abort_are_left_out(tmp_path: Path) -> None:
    source = source_of(FAMILIES["llama-135m"].write(tmp_path / "model.gguf"))
    types = ["IQ2_XXS", "Q3_K", "Q4_K", "Q5_K", "Q4_0", "IQ4_NL", "Q8_0"]
    by_name = {role.name: role for role in roles(source, None, types)}
    assert by_name["attn_q 576"].types == ["Q4_0", "IQ4_NL", "Q8_0"]
    assert by_name["ffn_down 1536"].types == ["Q3_K", "Q4_K", "Q5_K", "Q4_0", "IQ4_NL", "Q8_0"]
    lengths = {tensor.name: tensor.shape[0] for tensor in by_name["ffn_down 1536"].tensors}
    matrix = read_imatrix(some_imatrix(tmp_path / "imatrix.gguf", lengths))
    assert "IQ2_XXS" in next(role for role in roles(source, matrix, types) if "ffn_down" in role.name).types
    of = {"Q3_K": 4.0, "Q4_0": 2.0, "IQ4_NL": 1.2, "Q4_K": 1.0, "Q5_K": 0.3, "Q8_0": 0.01}
    assert measured_types(by_name["ffn_down 1536"], dict.fromkeys(lengths, of)) == ["Q4_K", "Q5_K", "Q3_K"]
    with pytest.raises(BadInput, match="can have any of these types"):
        roles(source_of(make_tiny.dense(tmp_path / "tiny.gguf")), None, ["Q4_K"])


def test_an_error_is_the_weighted_share_of_squares(tiny: Path, tmp_path: Path) -> None:
    name = "blk.1.ffn_down.weight"
    tensor = next(tensor for tensor in read_header(tiny).tensors if tensor.name == name)
    matrix = read_imatrix(some_imatrix(tmp_path / "imatrix.gguf", {name: tensor.shape[0]}))
    rows = next(each for each in gguf.GGUFReader(tiny).tensors if each.name == name).data
    back = gguf.quants.dequantize(gguf.quants.quantize(rows, Type.Q4_0), Type.Q4_0)
    sums = next(each for each in gguf.GGUFReader(matrix.path).tensors if each.name == f"{name}.in_sum2").data
    with Quantiser(threads=1) as quantiser:
        plain = quantiser.errors(Rounding(tensor, tiny, "Q4_0", None), ["Q4_0", "F16", "F32"])
        weighted = quantiser.errors(Rounding(tensor, tiny, "Q4_0", matrix.of(tensor)), ["Q4_0"])
    assert plain["Q4_0"] == pytest.approx(float(np.square(back - rows).sum() / np.square(rows).sum()), rel=1e-4)
    assert plain["F16"] < 1e-4 * plain["Q4_0"]
    assert plain["F32"] == 0
    # The matrix steers the rounding too, so that its weighted error is less than that of the plain rounding.
    unsteered = float((np.square(back - rows) * sums.reshape(-1)).sum() / (np.square(rows) * sums.reshape(-1)).sum())
    assert 0.3 * unsteered < weighted["Q4_0"] < unsteered


def test_experts_count_as_often_as_they_are_used(tmp_path: Path) -> None:
    full = make_tiny.experts(tmp_path / "experts.gguf")
    matrix = finish(imatrix_job(plan_of(full), [Text("words", WORDS[:3000])], 64, tmp_path / "imatrix.gguf"))
    tensor = next(each for each in read_header(full).tensors if each.name == "blk.0.ffn_up_exps.weight")
    importance = matrix.of(tensor)
    assert importance
    counts = np.fromfile(matrix.path, np.float32, importance.n_counts, offset=importance.counts)
    sums = np.fromfile(matrix.path, np.float32, tensor.shape[0] * len(counts), offset=importance.sums)
    rows = next(each for each in gguf.GGUFReader(full).tensors if each.name == tensor.name).data
    half = rows.astype(np.float16).astype(np.float32)
    error, whole = ((np.square(e).sum(axis=1) * sums.reshape(len(counts), -1)).sum() for e in (half - rows, rows))
    with Quantiser(threads=1) as quantiser:
        assert quantiser.errors(Rounding(tensor, full, "F16", importance), ["F16"])["F16"] == pytest.approx(
            float(error / whole), rel=1e-3
        )


# What is told


def test_what_is_told_of_a_role_is_what_was_measured_of_it(tiny: Path, tmp_path: Path) -> None:
    table, _ = found(tiny, tmp_path / "kept")
    measured = json.loads((tmp_path / "kept/swaps.json").read_text())["losses"]
    tensors = {tensor.name for tensor in read_header(tiny).tensors if len(tensor.shape) > 1}
    assert set(table.losses) == tensors
    for name in ("attn_q", "attn_v", "ffn_down", "token_embd"):
        told = {kind: sum(by[kind] for n, by in table.losses.items() if role_of(n) == name) for kind in TYPES}
        usual = sum(loss for swap, loss in measured.items() if swap.startswith(f"{name} ") and swap.endswith(" Q4_0"))
        assert told["Q4_0"] == pytest.approx(usual)
        fine = next(loss for swap, loss in measured.items() if swap.startswith(f"{name} ") and swap.endswith(" Q5_1"))
        assert told["Q5_1"] == pytest.approx(fine)
        assert told["Q4_0"] > told["Q5_1"] > told["Q8_0"] > 0


def test_a_type_that_was_not_measured_is_told_by_its_error(tiny: Path, tmp_path: Path) -> None:
    types = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")
    table, _ = found(tiny, tmp_path / "kept", types)
    with opened(tiny, tmp_path / "kept") as divergence:
        for kind in ("Q4_1", "Q5_1"):
            names = [name for name in table.losses if role_of(name) == "ffn_down"]
            tensors = [tensor for tensor in read_header(tiny).tensors if tensor.name in names]
            measured = finish(divergence.swapped([Rounding(tensor, tiny, kind, None) for tensor in tensors])).mean()
            assert sum(table.losses[name][kind] for name in names) == pytest.approx(measured, rel=0.3), kind


# Going on


def test_who_asks_again_measures_nothing_twice(tiny: Path, tmp_path: Path) -> None:
    whole, _ = found(tiny, tmp_path / "whole")
    kept = tmp_path / "kept"
    with opened(tiny, kept) as divergence:
        job = swap_job(divergence, None, TYPES, kept / "swaps.json")
        for event in job:
            if event.step == SWAP and event.done > 3:
                break
        job.close()
    table, events = found(tiny, kept)
    assert next(event for event in events if event.step == SWAP).done >= 3
    assert table == whole
    again, events = found(tiny, kept)
    assert [event.step for event in events if event.step != ERRORS] == [SWAP]
    assert again == whole
    wider, events = found(tiny, kept, (*TYPES, "Q6_K", "Q5_0"))
    assert wider.losses["blk.0.attn_q.weight"]["Q4_0"] == whole.losses["blk.0.attn_q.weight"]["Q4_0"]


@pytest.mark.slow
def test_a_killed_run_goes_on_at_each_stage(tiny: Path, tmp_path: Path) -> None:
    whole, _ = found(tiny, tmp_path / "whole")
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[3]); from test_swap import *;"
        "d, k = opened(Path(sys.argv[1]), Path(sys.argv[2])), Path(sys.argv[2]) / 'swaps.json';"
        "[print(e.step, int(e.done), sep=':', flush=True) for e in swap_job(d, None, TYPES, k)]"
    )
    for stage in (f"{ERRORS}:5", "full model:2", f"{SWAP}:1", f"{SWAP}:6"):
        child = subprocess.Popen(
            [sys.executable, "-c", code, tiny, tmp_path / "kept", Path(__file__).parent],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])},
        )
        assert child.stdout
        while (line := child.stdout.readline().strip()) != stage:
            assert line, stage
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        time.sleep(1.5)  # its own children see that it is gone
    table, events = found(tiny, tmp_path / "kept")
    assert next(event for event in events if event.step == SWAP).done >= 5
    assert table == whole


def test_another_model_begins_anew_and_a_damaged_file_too(tiny: Path, tmp_path: Path) -> None:
    first, _ = found(tiny, tmp_path / "kept")
    second, events = found(make_tiny.dense(tmp_path / "other.gguf", seed=2), tmp_path / "kept")
    assert first.identity != second.identity
    assert first.losses != second.losses
    assert next(event for event in events if event.step == SWAP).done < 1
    (tmp_path / "kept/swaps.json").write_text("[]")
    assert found(tiny, tmp_path / "kept")[0] == first


def test_weights_that_are_no_numbers_are_told(tmp_path: Path) -> None:
    parts = make_tiny.dense_parts()
    parts.tensors["blk.0.attn_q.weight"][0, 0] = np.nan
    make_tiny.write(tmp_path / "tiny.gguf", parts)
    with pytest.raises((BadInput, BadModelFile), match=r"no numbers|NaN"):
        found(tmp_path / "tiny.gguf", tmp_path / "kept")
