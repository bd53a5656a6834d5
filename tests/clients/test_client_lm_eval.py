"""lm-evaluation-harness against our server: its tokens, its slices, its numbers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asked import STARTER
from served import FILBERT, served

TASK = """\
task: capitals
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "The capital of {{{{country}}}} is"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: 0
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""
CAPITALS = [
    {"country": country, "choices": [town, "Ulm", "San Marino", "the town of nuts"]}
    for country, town in [("France", "Paris"), ("Italy", "Rome"), ("Japan", "Tokyo"), ("Peru", "Lima")]
]


@pytest.fixture(scope="module")
def alone(shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of one model, whose tokens lm-eval asks for without naming it."""
    home = tmp_path_factory.mktemp("alone") / "home"
    shutil.copytree(shelf / "models", home / "models")
    with served(home, "-m", STARTER) as url:
        yield url


@pytest.mark.parametrize("batch", [1, 8])
def test_a_task_gets_the_likelihoods_that_our_own_scoring_gives(
    alone: str, starter: Path, tmp_path: Path, batch: int
) -> None:
    data = tmp_path / "capitals.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in CAPITALS))
    (tmp_path / "capitals.yaml").write_text(TASK.format(data=data))
    model = f"model={STARTER},base_url={alone}/v1/completions,max_retries=1"
    command = ["-m", "lm_eval", "--model", "local-completions", "--model_args", model, "--tasks", "capitals"]
    command += ["--include_path", str(tmp_path), "--output_path", str(tmp_path / "out"), "--log_samples"]
    command += ["--batch_size", str(batch)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (kept,) = (tmp_path / "out").rglob("samples_capitals_*.jsonl")
    samples = sorted(map(json.loads, kept.read_text().splitlines()), key=lambda sample: sample["doc_id"])
    assert [sample["doc"]["country"] for sample in samples] == [row["country"] for row in CAPITALS]
    for sample, ours in zip(samples, scored(starter), strict=True):
        theirs = [(float(value), str(greedy) == "True") for ((value, greedy),) in sample["resps"]]
        assert [value for value, _ in theirs] == pytest.approx([value for value, _ in ours], rel=5e-3)
        assert [greedy for _, greedy in theirs] == [greedy for _, greedy in ours]
    assert samples[0]["resps"][0][0][1] == "True" and samples[0]["acc"] == 1.0


PROGRAM = """
import json, sys
from filbert import Model
from filbert.models.store import in_place
from pathlib import Path
with Model(in_place(Path(sys.argv[1]))) as model:
    for row in json.loads(sys.argv[2]):
        scored = model.score(f"The capital of {row['country']} is", [f" {choice}" for choice in row["choices"]])
        print(json.dumps([[each.loglikelihood, each.greedy] for each in scored]))
"""


def scored(starter: Path) -> list[Any]:
    """What our own scoring says of each choice, in the environment of the server."""
    python = FILBERT.with_name("python")
    command = [str(python), "-c", PROGRAM, str(starter), json.dumps(CAPITALS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]
