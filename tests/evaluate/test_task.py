from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from filbert.core.errors import BadInput
from filbert.evaluate.task import PAPER, Task, load, names

DATA = Path(__file__).parent.parent / "data"
PLAIN = {
    "task": "squirrels",
    "dataset_path": "json",
    "output_type": "multiple_choice",
    "validation_split": "validation",
    "doc_to_text": "question",
    "doc_to_target": "label",
    "doc_to_choice": "choices",
}


def written(folder: Path, text: str, name: str = "squirrels.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def task(folder: Path, **keys: Any) -> Task:
    """Of JSON, which is YAML."""
    return load(written(folder, json.dumps(PLAIN | keys)))


def test_the_papers_tasks_are_ours() -> None:
    assert set(PAPER) == set(names())
    assert [load(name).name for name in PAPER] == list(PAPER)


@pytest.mark.parametrize("name", PAPER)
def test_ours_and_lm_evals_file_tell_the_same(name: str) -> None:
    ours, theirs = load(name), load(DATA / f"lm_eval/{name}.yaml")
    for key in Task.__slots__:
        if key not in ("path", "process_docs", "doc_to_text", "doc_to_target", "doc_to_choice"):  # see test_items.py
            assert getattr(ours, key) == getattr(theirs, key), key


@pytest.mark.parametrize(
    ("name", "metrics", "split", "pool"),
    [
        ("boolq", ("acc",), "validation", "train"),
        ("winogrande", ("acc",), "validation", "train"),
        ("hellaswag", ("acc", "acc_norm"), "validation", "train"),
        ("arc_challenge", ("acc", "acc_norm"), "test", "train"),
    ],
)
def test_a_task_knows_its_metrics_and_splits(name: str, metrics: tuple[str, ...], split: str, pool: str) -> None:
    found = load(name)
    assert (found.metrics, found.split, found.pool_split, found.version) == (metrics, split, pool, found.version)
    assert found.version in ("1.0", "2.0")


def test_what_a_file_leaves_out_is_as_in_lm_eval(tmp_path: Path) -> None:
    found = task(tmp_path)
    assert (found.target_delimiter, found.fewshot_delimiter, found.description) == (" ", "\n\n", "")
    assert (found.metrics, found.sampler, found.pool_split) == (("acc", "acc_norm"), "default", "validation")
    assert load(DATA / "tasks/last_word.yaml").metrics == ("perplexity", "acc")


@pytest.mark.parametrize(
    ("said", "asked", "shots"), [(None, None, 0), (3, None, 3), (3, 5, 5), (None, 5, 5), (0, 5, 0)]
)
def test_a_file_that_says_no_examples_means_it(said: int | None, asked: int | None, shots: int, tmp_path: Path) -> None:
    assert task(tmp_path, num_fewshot=said).shots(asked) == shots


def test_data_files_are_found_beside_the_file_that_names_them(tmp_path: Path) -> None:
    inner = written(tmp_path, json.dumps(PLAIN | {"dataset_kwargs": {"data_files": "a.jsonl"}}), "sub/base.yaml")
    outer = written(tmp_path, "include: sub/base.yaml\ntask: outer\n", "outer.yaml")
    assert load(outer).data_files == {"train": (str(inner.parent / "a.jsonl"),)}
    files = {"test": ["b.jsonl", "https://example.org/c.jsonl", "/d.jsonl"]}
    found = task(tmp_path, dataset_kwargs={"data_files": files, "trust_remote_code": True})
    assert found.data_files == {"test": (str(tmp_path / "b.jsonl"), "https://example.org/c.jsonl", "/d.jsonl")}


def test_later_files_win_over_included_ones(tmp_path: Path) -> None:
    written(tmp_path, json.dumps(PLAIN | {"description": "base", "task_list": ["x"]}), "base.yaml")
    written(tmp_path, "description: more\ntarget_delimiter: ''\n", "more.yaml")
    found = load(written(tmp_path, "include: [base.yaml, more.yaml]\ntask: mine\n"))
    assert (found.name, found.description, found.target_delimiter) == ("mine", "more", "")


def test_a_file_may_be_included_twice(tmp_path: Path) -> None:
    written(tmp_path, json.dumps(PLAIN), "base.yaml")
    written(tmp_path, "include: base.yaml\ndescription: a\n", "a.yaml")
    written(tmp_path, "include: base.yaml\nnum_fewshot: 2\n", "b.yaml")
    found = load(written(tmp_path, "include: [a.yaml, b.yaml]\n"))
    assert (found.description, found.num_fewshot) == ("a", 2)


def test_other_metrics_are_told(tmp_path: Path) -> None:
    found = task(tmp_path, metric_list=[{"metric": "mcc"}, {"metric": "acc"}, {"metric": "f1", "aggregation": "f1"}])
    assert (found.metrics, found.other_metrics) == (("acc",), ("mcc", "f1"))


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ({"task": None}, "has no task"),
        ({"dataset_path": None}, "has no dataset_path"),
        ({"doc_to_text": None}, "has no doc_to_text"),
        ({"doc_to_target": None}, "has no doc_to_target"),
        ({"doc_to_choice": None}, "has no doc_to_choice"),
        ({"validation_split": None}, "names no split to evaluate"),
        ({"output_type": None}, "output_type is generate_until, which is not scored"),
        ({"output_type": "loglikelihood_rolling"}, "output_type is loglikelihood_rolling, which is not scored"),
        ({"task": ["boolq", "piqa"]}, "is a group of tasks"),
        ({"group": "nuts"}, "is a group of tasks"),
        ({"class": "nuts.Task"}, "wants to run Python: its class is the task"),
        ({"gen_prefix": "So:"}, "gen_prefix is not understood"),
        ({"process_results": "x"}, "process_results is not understood"),
        ({"filter_list": [{"name": "a"}]}, "filter_list is not understood"),
        ({"use_prompt": "qa-basic:q-newline-a"}, "use_prompt is not understood"),
        ({"nonesuch": 1}, "nonesuch is not understood"),
        ({"unsafe_code": True}, "unsafe_code is not understood"),
        ({"repeats": 3}, "repeats asks each question more than once"),
        ({"fewshot_config": {"sampler": "balanced"}}, "fewshot_config.sampler is balanced"),
        ({"fewshot_config": {"doc_to_text": "x"}}, "fewshot_config.doc_to_text is not understood"),
        ({"dataset_kwargs": {"revision": "x"}}, "dataset_kwargs.revision is not understood"),
        ({"dataset_kwargs": {"data_files": [1]}}, "no file"),
        ({"metric_list": [{"metric": "exact_match"}]}, "metric_list has none of acc and acc_norm"),
        ({"metric_list": ["acc"]}, "metric_list is no list of metrics"),
        ({"metric_list": [{"aggregation": "mean"}]}, "names None, which is no metric"),
        ({"metric_list": [{"metric": "acc", "aggregation": "median"}]}, "aggregates acc by 'median'"),
        ({"doc_to_choice": [False, True]}, "doc_to_choice holds False, which is no text"),
        ({"doc_to_text": 3}, "doc_to_text is 3, which is no text"),
        ({"num_fewshot": -1}, "num_fewshot is -1"),
        ({"num_fewshot": "5"}, "num_fewshot is '5'"),
        ({"description": ["a"]}, "description is .* which is no text"),
        ({"metadata": 3}, "metadata is 3, which is no table"),
        ({"process_docs": "utils.process_docs"}, "process_docs is no !function"),
    ],
)
def test_what_would_change_the_numbers_is_refused_by_name(keys: dict[str, Any], what: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=what) as refused:
        task(tmp_path, **keys)
    assert refused.value.do


def test_what_changes_nothing_is_left_alone(tmp_path: Path) -> None:
    idle = {"tag": ["a"], "task_alias": "b", "should_decontaminate": True, "doc_to_decontamination_query": "{{x}}"}
    off = {"gen_prefix": None, "unsafe_code": False, "repeats": 1, "generation_kwargs": {"until": ["."]}}
    assert task(tmp_path, **idle, **off) == task(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "doc_to_text: !function utils.doc_to_text",
        "doc_to_text: !function utils.process_docs",
        "process_docs: !function os.system",
        "metric_list: [{metric: !function utils.mine}]",
        "metric_list: [{metric: acc, aggregation: !function utils.mine}]",
        "custom_dataset: !function utils.load",
    ],
)
def test_python_from_a_file_is_refused(line: str, tmp_path: Path) -> None:
    written(tmp_path, json.dumps(PLAIN), "base.yaml")
    with pytest.raises(BadInput, match=r"wants to run Python: .*!function"):
        load(written(tmp_path, f"include: base.yaml\n{line}\n"))


def test_a_module_that_is_not_lm_evals_is_not_taken_for_it(tmp_path: Path) -> None:
    for name in ("hellaswag.yaml", "utils.py"):
        shutil.copy(DATA / "lm_eval" / name, tmp_path)
    assert load(tmp_path / "hellaswag.yaml").process_docs
    (tmp_path / "utils.py").write_text("def process_docs(dataset):\n    return dataset\n")
    with pytest.raises(BadInput, match=r"utils.py beside it is not lm-evaluation-harness's"):
        load(tmp_path / "hellaswag.yaml")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("- task: a\n- task: b\n", "is not a task: it holds a list"),
        ("", "is not a task: it holds no table"),
        ("just text", "is not a task: it holds no table"),
        ("1: 2", "is not a task: it holds no table"),
        ("task: [a", "is not YAML that can be read"),
        ("task: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("task: !function [a]", "!function names no function"),
        ("task: \x00", "is not YAML that can be read"),
        ("[" * 5000, "is not YAML that can be read"),
        (f"task: {'a' * 1_100_000}", "It is over 1 MB"),
        ("include: nowhere.yaml", "nowhere.yaml cannot be read"),
        ("include: [1]", "includes 1, which is no name of a file"),
        ("include: 5", "includes 5, which is no name of a file"),
        ("include: squirrels.yaml", "squirrels.yaml includes itself"),
        ("include: ../other.yaml", "which is outside its folder"),
        ("include: /etc/passwd", "which is outside its folder"),
    ],
)
def test_a_file_that_is_no_task_is_told(text: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=what) as refused:
        load(written(tmp_path, text, "folder/squirrels.yaml"))
    assert refused.value.do


def test_a_loop_of_two_files_is_told(tmp_path: Path) -> None:
    written(tmp_path, "include: squirrels.yaml", "other.yaml")
    with pytest.raises(BadInput, match="includes itself"):
        load(written(tmp_path, "include: other.yaml"))


def test_an_unknown_name_is_told_with_those_there_are() -> None:
    with pytest.raises(BadInput, match=r"There is no task bollq. Take one of arc_challenge, .*boolq"):
        load("bollq")
