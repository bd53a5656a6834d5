"""lm-evaluation-harness on a model, by an interpreter that has it: a task a line of standard input, an answer a line.

python harness.py FOLDER THREADS        FOLDER: a model as transformers reads it
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import lm_eval.tasks
import torch
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks._yaml_loader import load_yaml

OWN = {
    "boolq": "super_glue/boolq/default",
    "winogrande": "winogrande/default",
    "arc_easy": "arc/arc_easy",
    "arc_challenge": "arc/arc_challenge",
}
BATCH = 8


class Timed(HFLM):  # type: ignore[misc]
    wall_s = cpu_s = 0.0

    def loglikelihood(self, requests: Any, **options: Any) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            return super().loglikelihood(requests, **options)
        finally:
            self.wall_s, self.cpu_s = time.perf_counter() - wall, time.process_time() - cpu


def main(folder: str, threads: str) -> None:
    torch.set_num_threads(int(threads))
    model = Timed(pretrained=folder, dtype="float32", device="cpu", batch_size=BATCH)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        print(json.dumps(measured(model, **json.loads(line))), flush=True)


def measured(model: Timed, task: str, files: dict[str, str], limit: int) -> dict[str, Any]:
    """Of each item, in order: the log-likelihoods of its choices."""
    found = simple_evaluate(model=model, tasks=[config(task, files)], limit=limit, log_samples=True, bootstrap_iters=0)
    samples = sorted(found["samples"][task], key=lambda sample: sample["doc_id"])
    scores = {key: value for key, value in found["results"][task].items() if key in ("acc,none", "acc_norm,none")}
    return {
        "loglikelihoods": [[float(value) for value, _ in sample["filtered_resps"]] for sample in samples],
        "scores": {key.removesuffix(",none"): value for key, value in scores.items()},
        "wall_s": model.wall_s,
        "cpu_s": model.cpu_s,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def config(task: str, files: dict[str, str]) -> dict[str, Any]:
    """lm-eval's own, with its documents from files."""
    found = load_yaml(Path(lm_eval.tasks.__file__).parent / f"{OWN.get(task, f'{task}/{task}')}.yaml")
    found.pop("tag", None)
    absent = {key: None for key in ("training_split", "validation_split", "test_split") if found.get(key) not in files}
    of_files = {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": files}}
    return {**found, **absent, **of_files}


if __name__ == "__main__":
    main(*sys.argv[1:])
