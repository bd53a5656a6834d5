"""What is asked of a model: tasks, how many items, how they are put."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from filbert.core.jobs import Job
from filbert.core.settings import configured
from filbert.engine.chat_prompt import chat_prompt
from filbert.engine.load_options import OF_NUMBERS
from filbert.engine.model import Model
from filbert.engine.token_scorer import TokenScorer
from filbert.evaluate.data import split_of
from filbert.evaluate.items import SEED, Chat, items
from filbert.evaluate.result import TaskResult
from filbert.evaluate.run import evaluate_job
from filbert.evaluate.tables import need_pyarrow
from filbert.evaluate.task import PAPER, Task, load
from filbert.models.download_options import DownloadOptions


@dataclass(frozen=True, slots=True)
class Evaluation:
    """tasks: names and paths with commas between, `paper` for its seven; limit, fewshot: None for all items and for
    each task's own number; data: None for wherever a task has its documents."""

    tasks: str
    limit: int | None = None
    fewshot: int | None = None
    seed: int = SEED
    chat_template: bool = False
    data: Path | None = None

    @property
    def flags(self) -> Sequence[str]:
        """Those of `filbert evaluate` that ask the same."""
        told = ["--tasks", self.tasks]
        told += ["--limit", str(self.limit)] if self.limit else []
        told += ["--fewshot", str(self.fewshot), "--seed", str(self.seed)] if self.fewshot else []
        told += ["--data", str(self.data)] if self.data else []
        return [*told, "--chat-template"] if self.chat_template else told

    def loaded(self) -> list[Task]:
        """Raises BadInput without the extra, and for a task that nobody knows: before anything is measured."""
        need_pyarrow()
        names = [
            each for name in self.tasks.split(",") for each in (PAPER if name.strip() == "paper" else [name.strip()])
        ]
        return [load(name) for name in dict.fromkeys(names)]

    def job(self, model: Model) -> Job[list[TaskResult]]:
        """Raises BadInput, DownloadFailed, and what `evaluate_job` raises."""
        model.need("text")
        words = ["filbert", "evaluate", model.name, *model.options.flags(OF_NUMBERS)]
        return self.scored(model.scorer, words, partial(chat_prompt, model))

    def scored(self, scorer: TokenScorer, words: Sequence[str], chat: Chat | None = None) -> Job[list[TaskResult]]:
        """words: the command without these flags; chat: how the model is shown a conversation. Raises as `job`."""
        found = []
        for task in self.loaded():
            found.append((yield from self._job(scorer, task, shlex.join([*words, *self.flags]), chat)))
        return found

    def _job(self, scorer: TokenScorer, task: Task, command: str, chat: Chat | None) -> Job[TaskResult]:
        options = configured(DownloadOptions)
        n_fewshot = task.shots(self.fewshot)
        split = yield from split_of(task, task.split, self.data, options)
        pool = split
        if n_fewshot and task.pool_split != task.split:
            pool = yield from split_of(task, task.pool_split, self.data, options)
        asked = items(
            task,
            split.documents[: self.limit],
            pool=pool.documents,
            n_fewshot=n_fewshot,
            seed=self.seed,
            chat=chat if self.chat_template else None,
        )
        settings = ", ".join([f"{n_fewshot}-shot", *(["as in a chat"] if self.chat_template else [])])
        return (yield from evaluate_job(scorer, task, asked, len(split.documents), split.origin, command, settings))
