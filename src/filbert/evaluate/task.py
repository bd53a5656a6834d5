"""A task: where its documents come from, and how they become questions. The format is lm-evaluation-harness's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

from filbert.core.errors import BadInput
from filbert.evaluate import task_file
from filbert.evaluate.processors import Function, need_known

PAPER = ("boolq", "piqa", "hellaswag", "winogrande", "arc_easy", "arc_challenge", "openbookqa")
OURS = Path(__file__).with_name("tasks")
OutputType = Literal["multiple_choice", "loglikelihood"]
Sampler = Literal["default", "first_n"]
METRICS: Mapping[OutputType, tuple[str, ...]] = {
    "multiple_choice": ("acc", "acc_norm"),
    "loglikelihood": ("perplexity", "acc"),
}
AGGREGATIONS = {"acc": "mean", "acc_norm": "mean", "perplexity": "perplexity"}
# Neither what is asked nor how it is counted hangs on these.
IDLE = {
    "tag",
    "task_alias",
    "task_list",
    "should_decontaminate",
    "doc_to_decontamination_query",
    "generation_kwargs",
}
SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """dataset_path: a set of the hub, or `json`, … with `data_files`: absolute paths or addresses of each split.
    doc_to_…: the name of a field, else a Jinja template, else what is the same for every document; None for no choices.
    other_metrics: those of the file that lm-eval would count and Filbert does not."""

    name: str
    path: Path
    dataset_path: str
    dataset_name: str | None = None
    data_files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    output_type: OutputType
    training_split: str | None = None
    validation_split: str | None = None
    test_split: str | None = None
    fewshot_split: str | None = None
    process_docs: Function | None = None
    doc_to_text: str | Function
    doc_to_target: str | int | Function
    doc_to_choice: str | tuple[str, ...] | Function | None = None
    target_delimiter: str = " "
    fewshot_delimiter: str = "\n\n"
    description: str = ""
    num_fewshot: int | None = None
    sampler: Sampler = "default"
    metrics: tuple[str, ...] = ()
    other_metrics: tuple[str, ...] = ()
    version: str = ""

    @property
    def split(self) -> str:
        """The one that is evaluated."""
        return cast(str, self.test_split or self.validation_split)

    @property
    def pool_split(self) -> str:
        """The one that few-shot examples are drawn from."""
        return cast(str, self.fewshot_split or self.training_split or self.validation_split or self.test_split)

    @property
    def leaves_itself_out(self) -> bool:
        """Whether a document is never an example for itself: lm-eval asks it so, and None is equal to None."""
        return self.fewshot_split == self.test_split

    def shots(self, asked: int | None) -> int:
        """How many examples; a file that says 0 means it, whatever is asked for, as in lm-eval."""
        return self.num_fewshot or 0 if asked is None or self.num_fewshot == 0 else asked


def names() -> tuple[str, ...]:
    """The tasks that come with Filbert."""
    return tuple(sorted(file.stem for file in OURS.glob("*.yaml")))


def load(name_or_path: str | Path) -> Task:
    """One of ours by its name, or anybody's by the path of its YAML file. Raises BadInput."""
    if str(name_or_path) in names():
        return _task(OURS / f"{name_or_path}.yaml")
    path = Path(name_or_path).expanduser()
    if not path.is_file():
        raise BadInput(
            f"There is no task {name_or_path}.", do=f"Take one of {', '.join(names())}, or the path of a YAML file."
        )
    return _task(path)


def _task(path: Path) -> Task:
    keys = _Keys(path, task_file.read(path))
    keys.refuse_groups()
    output_type = keys.output_type()
    for key in IDLE:
        keys.take(key)
    samples = _Keys(path, keys.table("fewshot_config"), "fewshot_config.")
    dataset = _Keys(path, keys.table("dataset_kwargs"), "dataset_kwargs.")
    dataset.take("trust_remote_code")
    metrics, other_metrics = keys.metrics(output_type)
    splits = {key: keys.text(key) for key in SPLITS}
    splits["fewshot_split"] = samples.text("split") or splits["fewshot_split"]
    task = Task(
        name=keys.needed("task"),
        path=path,
        dataset_path=keys.needed("dataset_path"),
        dataset_name=keys.text("dataset_name"),
        data_files=dataset.table("data_files"),
        output_type=output_type,
        **splits,
        process_docs=keys.function("process_docs"),
        doc_to_text=keys.function("doc_to_text") or keys.needed("doc_to_text"),
        doc_to_target=keys.target(),
        doc_to_choice=keys.choice(),
        target_delimiter=keys.text("target_delimiter", " "),
        fewshot_delimiter=keys.text("fewshot_delimiter", "\n\n"),
        description=keys.text("description", ""),
        num_fewshot=keys.count("num_fewshot"),
        sampler=samples.sampler(),
        metrics=metrics,
        other_metrics=other_metrics,
        version=str(keys.table("metadata").get("version", "")),
    )
    if keys.take("repeats") not in (None, 1):
        raise keys.bad("repeats", "asks each question more than once", do="Leave it out.")
    for left in (samples, dataset, keys):
        left.refuse_the_rest()
    if not (task.test_split or task.validation_split):
        raise BadInput(f"{path} names no split to evaluate.", do="Add `test_split` or `validation_split`.")
    if output_type == "multiple_choice" and task.doc_to_choice is None:
        raise BadInput(f"{path} has no doc_to_choice.", do="A multiple_choice task needs it.")
    return task


class _Keys:
    """Those of a table, each taken once; what nobody takes is refused, for it could change the numbers."""

    def __init__(self, path: Path, table: dict[str, Any], within: str = "") -> None:
        self._path, self._within = path, within
        self._left = {key: value for key, value in table.items() if value is not None}

    def bad(self, key: str, what: str, *, do: str) -> BadInput:
        return BadInput(f"{self._path}: {self._within}{key} {what}.", do=do)

    def take(self, key: str) -> Any:
        return self._left.pop(key, None)

    def text(self, key: str, default: Any = None) -> Any:
        value = self.take(key)
        if not isinstance(value, str | None):
            raise self.bad(key, f"is {_shown(value)}, which is no text", do="Put it in quotes.")
        return default if value is None else value

    def needed(self, key: str) -> str:
        value: str = self.text(key, "")
        if not value:
            raise BadInput(f"{self._path} has no {self._within}{key}.", do="A task needs it.")
        return value

    def table(self, key: str) -> dict[str, Any]:
        value = self.take(key)
        if not isinstance(value, dict | None):
            raise self.bad(key, f"is {_shown(value)}, which is no table", do="Write its keys below it.")
        return value or {}

    def count(self, key: str) -> int | None:
        value = self.take(key)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            raise self.bad(key, f"is {_shown(value)}, which is no number of examples", do="Write 0, 5, ….")
        return value

    def function(self, key: str) -> Function | None:
        if not isinstance(self._left.get(key), Function):
            if key == "process_docs" and key in self._left:
                raise self.bad(key, "is no !function", do="Leave it out.")
            return None
        return need_known(self.take(key), key, where=self._path)

    def target(self) -> str | int | Function:
        value = self._left.get("doc_to_target")
        if isinstance(value, int) and not isinstance(value, bool):
            self.take("doc_to_target")
            return value
        return self.function("doc_to_target") or self.needed("doc_to_target")

    def choice(self) -> str | tuple[str, ...] | Function | None:
        value = self._left.get("doc_to_choice")
        if not isinstance(value, list | dict):
            return self.function("doc_to_choice") or self.text("doc_to_choice")
        self.take("doc_to_choice")
        choices = tuple(value.values() if isinstance(value, dict) else value)
        for choice in choices:
            if not isinstance(choice, str):
                raise self.bad("doc_to_choice", f"holds {_shown(choice)}, which is no text", do="Put it in quotes.")
        return choices

    def sampler(self) -> Sampler:
        value = self.text("sampler", "default")
        if value not in get_args(Sampler):
            raise self.bad("sampler", f"is {value}", do="Known are default and first_n.")
        return cast(Sampler, value)

    def output_type(self) -> OutputType:
        value = self.text("output_type", "generate_until")
        if value not in METRICS:
            raise self.bad(
                "output_type",
                f"is {value}, which is not scored",
                do=f"Known are {' and '.join(METRICS)}: answers that are given, not written.",
            )
        return cast(OutputType, value)

    def refuse_groups(self) -> None:
        if "group" in self._left or isinstance(self._left.get("task"), list):
            raise BadInput(
                f"{self._path} is a group of tasks, not one.", do="Name the files of its tasks, one after the other."
            )
        if "class" in self._left:
            raise BadInput(
                f"{self._path} wants to run Python: its class is the task.",
                why="No Python from a file is run.",
                do="Say the task with templates.",
            )

    def metrics(self, output_type: OutputType) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Those that are counted, in the file's order, and the others."""
        known, entries = METRICS[output_type], self.take("metric_list")
        if entries is None:
            return known, ()
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise self.bad("metric_list", "is no list of metrics", do="Write `- metric: acc` below it.")
        for entry in entries:
            self._need_plain(entry)
        asked = [entry["metric"] for entry in entries]
        counted = tuple(name for name in asked if name in known)
        if not counted:
            raise self.bad("metric_list", f"has none of {' and '.join(known)}", do="Add one of them.")
        return counted, tuple(name for name in asked if name not in known)

    def _need_plain(self, entry: dict[str, Any]) -> None:
        for key, value in entry.items():
            if isinstance(value, Function):
                need_known(value, f"metric_list.{key}", where=self._path)
        metric = entry.get("metric")
        if not isinstance(metric, str):
            raise self.bad("metric_list", f"names {_shown(metric)}, which is no metric", do="Write `- metric: acc`.")
        usual = AGGREGATIONS.get(metric)
        if usual and entry.get("aggregation", usual) != usual:
            raise self.bad(
                "metric_list", f"aggregates {metric} by {_shown(entry['aggregation'])}", do=f"Known is {usual}."
            )

    def refuse_the_rest(self) -> None:
        for key, value in self._left.items():
            if isinstance(value, Function):
                need_known(value, key, where=self._path)
            if value not in (False, "", [], {}):
                raise self.bad(key, "is not understood", do="Leave it out, if the numbers may change with it.")


def _shown(value: Any) -> str:
    return f"!function {value.name}" if isinstance(value, Function) else repr(value)
