"""Write tests/golden/requests.json with lm-evaluation-harness, outside the project: what it asks a model.

python3 -m venv reference && reference/bin/pip install lm-eval==0.4.13
reference/bin/python tools/golden_requests.py > tests/golden/requests.json
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

DATA = Path(__file__).parent.parent / "tests/data"
DOCUMENTS = json.loads((DATA / "tasks/documents.json").read_text("utf-8"))
SHOTS = {"zero": (0, False), "two": (2, False), "chat": (0, True), "two in a chat": (2, True)}
SEED = 1234


class OverOurDocuments(ConfigurableTask):  # type: ignore[misc]
    def download(self, dataset_kwargs: Any = None, **kwargs: Any) -> None:
        splits = DOCUMENTS[self.config.task]
        self.dataset = {split: datasets.Dataset.from_list(documents) for split, documents in splits.items()}


def main() -> None:
    made_by = {"versions": {name: version(name) for name in ("lm_eval", "Jinja2", "datasets")}, "command": command()}
    tasks = ",\n".join(f"{json.dumps(name)}: {{\n{told(name)}\n}}" for name in DOCUMENTS)
    print(f'{{\n"made_by": {json.dumps(made_by, indent=1)},\n"tasks": {{\n{tasks}\n}}\n}}')


def command() -> list[str]:
    (_, *lines) = (line.strip() for line in (__doc__ or "").splitlines() if line.strip())
    return lines


def told(name: str) -> str:
    cases = {case: items(name, *how) for case, how in SHOTS.items()}
    lines = {case: ",\n".join(json.dumps(item, ensure_ascii=False) for item in found) for case, found in cases.items()}
    return ",\n".join(f"{json.dumps(case)}: [\n{items}\n]" for case, items in lines.items())


def items(name: str, n_fewshot: int, in_chat: bool) -> list[dict[str, Any]]:
    file = next(
        folder / f"{name}.yaml" for folder in (DATA / "lm_eval", DATA / "tasks") if (folder / f"{name}.yaml").exists()
    )
    config = load_yaml(file)
    config.pop("tag", None)
    task = OverOurDocuments(config=config | {"num_fewshot": n_fewshot})
    task.set_fewshot_seed(SEED)
    task.build_all_requests(apply_chat_template=in_chat, fewshot_as_multiturn=in_chat, chat_template=chat)
    found: dict[int, list[Any]] = {}
    for instance in task.instances:
        found.setdefault(instance.doc_id, []).append(instance)
    return [
        {"requests": [instance.args for instance in instances], "gold": gold(task, instances)}
        for instances in found.values()
    ]


def chat(messages: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
    written = "".join(f"<{message['role']}>{message['content']}</>" for message in messages)
    return written + ("<assistant>" if add_generation_prompt else "")


def gold(task: ConfigurableTask, instances: list[Any]) -> int | None:
    """The choice that is graded as right when a model prefers it."""
    if task.OUTPUT_TYPE == "loglikelihood":
        return None
    ranks = range(len(instances))
    answers = [[(0.0 if at == right else -1.0, False) for at in ranks] for right in ranks]
    graded = [task.process_results(instances[0].doc, answer)["acc"] for answer in answers]
    return graded.index(1.0)


if __name__ == "__main__":
    main()
