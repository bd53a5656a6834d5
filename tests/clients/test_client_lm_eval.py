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
from served import CHECKOUT, FILBERT, served

PYTHON = FILBERT.with_name("python")
LIMIT = 100  # items of each task
SPLITS = {"arc_easy": "test", "openbookqa": "test", "piqa": "validation"}
OVER_OURS = """\
include: {include}
task: local_{name}
dataset_path: json
dataset_name: null
dataset_kwargs: {{data_files: {{test: {data}}}}}
training_split: null
validation_split: null
test_split: test
"""

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


def asked(url: str, name: str, folder: Path, tasks: list[str], batch: int) -> dict[str, list[dict[str, Any]]]:
    """What lm-eval keeps of each item of tasks whose files are in that folder."""
    model = f"model={name},base_url={url}/v1/completions,max_retries=1"
    command = ["-m", "lm_eval", "--model", "local-completions", "--model_args", model, "--tasks", ",".join(tasks)]
    command += ["--include_path", str(folder), "--output_path", str(folder / "out"), "--log_samples"]
    command += ["--batch_size", str(batch), "--limit", str(LIMIT)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = {}
    for task in tasks:
        (kept,) = (folder / "out").rglob(f"samples_{task}_*.jsonl")
        found[task] = sorted(map(json.loads, kept.read_text().splitlines()), key=lambda sample: sample["doc_id"])
    return found


def told(sample: dict[str, Any]) -> list[tuple[float, bool]]:
    """Of each choice of an item, its log-likelihood and whether it was the likeliest."""
    return [(float(value), str(greedy) == "True") for ((value, greedy),) in sample["resps"]]


@pytest.mark.parametrize("batch", [1, 8])
def test_a_task_gets_the_likelihoods_that_our_own_scoring_gives(
    alone: str, starter: Path, tmp_path: Path, batch: int
) -> None:
    data = tmp_path / "capitals.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in CAPITALS))
    (tmp_path / "capitals.yaml").write_text(TASK.format(data=data))
    samples = asked(alone, STARTER, tmp_path, ["capitals"], batch)["capitals"]
    assert [sample["doc"]["country"] for sample in samples] == [row["country"] for row in CAPITALS]
    for sample, ours in zip(samples, scored(starter), strict=True):
        theirs = told(sample)
        assert [value for value, _ in theirs] == pytest.approx([value for value, _ in ours], rel=5e-3)
        assert [greedy for _, greedy in theirs] == [greedy for _, greedy in ours]
    assert samples[0]["resps"][0][0][1] == "True" and samples[0]["acc"] == 1.0


@pytest.fixture
def home(test_models: Path, tmp_path: Path) -> Path:
    """A store of its own; the sets that it fetches are kept between runs."""
    (test_models / "datasets").mkdir(exist_ok=True)
    (tmp_path / "home").mkdir()
    (tmp_path / "home/datasets").symlink_to(test_models / "datasets")
    return tmp_path / "home"


@pytest.fixture
def uncompressed(starter: Path, tmp_path: Path) -> Path:
    """The starter as F16. Of compressed weights a number depends on how many tokens are decoded at once, by 2 %."""
    file = tmp_path / "full.gguf"
    program = "import sys; from pathlib import Path; from requantise import uncompressed"
    command = [str(PYTHON), "-c", f"{program}; uncompressed(*map(Path, sys.argv[1:]))", str(starter), str(file)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(CHECKOUT / "tests")})
    return file


def evaluate(home: Path, *words: str) -> Any:
    command = [str(FILBERT), "evaluate", *words, "--json"]
    environment = {**os.environ, "FILBERT_HOME": str(home)}
    return json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout)


@pytest.mark.timeout(1800)
def test_three_tasks_get_the_choices_and_figures_of_our_own_evaluation(
    home: Path, uncompressed: Path, tmp_path: Path
) -> None:
    ours = evaluate(home, str(uncompressed), "--tasks", ",".join(SPLITS), "--limit", str(LIMIT))
    for name, split in SPLITS.items():
        (data,) = (home / "datasets").glob(f"*/{name}/{split}.jsonl.gz")
        include = CHECKOUT / "tests/data/lm_eval" / f"{name}.yaml"
        (tmp_path / f"{name}.yaml").write_text(OVER_OURS.format(include=include, name=name, data=data))
    with served(home, "-m", str(uncompressed)) as url:
        theirs = asked(url, uncompressed.stem, tmp_path, [f"local_{name}" for name in SPLITS], 8)
    agreed, n = 0, 0
    for name in SPLITS:
        samples, rows = theirs[f"local_{name}"], evaluate(home, "show", ours["filbert"]["runs"][name])
        for sample, row in zip(samples, rows, strict=True):
            values = [value for value, _ in told(sample)]
            assert values == pytest.approx(row["loglikelihoods"], rel=5e-3, abs=5e-3)
            agreed += values.index(max(values)) == row["chosen"]
            n += 1
        for metric in ("acc", "acc_norm"):
            mean = sum(sample[metric] for sample in samples) / LIMIT
            assert mean == pytest.approx(ours["results"][name][f"{metric},none"], abs=1.01 / LIMIT)
    assert n == LIMIT * len(SPLITS) and agreed >= 0.99 * n


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
    command = [str(PYTHON), "-c", PROGRAM, str(starter), json.dumps(CAPITALS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]
