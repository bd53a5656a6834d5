from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from filbert.core.errors import BadInput
from filbert.core.messages import Message
from filbert.evaluate.items import items
from filbert.evaluate.task import PAPER, Task, load

TESTS = Path(__file__).parent.parent
DOCUMENTS = json.loads((TESTS / "data/tasks/documents.json").read_text("utf-8"))
GOLDEN = json.loads((TESTS / "golden/requests.json").read_text("utf-8"))["tasks"]
SHOTS = {"zero": (0, False), "two": (2, False), "chat": (0, True), "two in a chat": (2, True)}
SQUIRRELS = {"question": "Who hides filberts?", "choices": ["squirrels", "whales"], "label": 0}


def chat(messages: Sequence[Message]) -> str:
    return "".join(f"<{message.role}>{message.content}</>" for message in messages) + "<assistant>"


def ours_or_of_the_tests(name: str) -> Task:
    return load(name if name in PAPER else TESTS / f"data/tasks/{name}.yaml")


def found(task: Task, name: str, case: str) -> list[dict[str, Any]]:
    n_fewshot, in_chat = SHOTS[case]
    splits = DOCUMENTS[name]
    made = items(
        task,
        splits[task.split],
        pool=splits[task.pool_split],
        n_fewshot=n_fewshot,
        chat=chat if in_chat else None,
    )
    assert [item.problem for item in made] == [""] * len(made)
    return [{"requests": [list(request) for request in item.requests], "gold": item.gold} for item in made]


@pytest.mark.parametrize("case", SHOTS)
@pytest.mark.parametrize("name", GOLDEN)
def test_a_task_asks_and_grades_as_lm_eval_does(name: str, case: str) -> None:
    assert found(ours_or_of_the_tests(name), name, case) == GOLDEN[name][case]


@pytest.mark.parametrize("name", PAPER)
def test_lm_evals_own_file_of_a_task_asks_the_same(name: str) -> None:
    assert found(load(TESTS / f"data/lm_eval/{name}.yaml"), name, "two") == GOLDEN[name]["two"]


def test_the_choices_are_kept_for_their_lengths() -> None:
    made = items(load("winogrande"), DOCUMENTS["winogrande"]["validation"])
    assert made[0].choices == (
        "The filbert did not fit the jar because the filbert",
        "The filbert did not fit the jar because the jar",
    )


def task_file(folder: Path, **keys: Any) -> Path:
    """JSON is YAML."""
    table = {
        "task": "squirrels",
        "dataset_path": "json",
        "output_type": "multiple_choice",
        "validation_split": "validation",
        "doc_to_text": "{{question}}",
        "doc_to_target": "label",
        "doc_to_choice": "choices",
    }
    path = folder / "squirrels.yaml"
    path.write_text(json.dumps(table | keys), "utf-8")
    return path


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        ({"question": ...}, "doc_to_text: 'question' is undefined."),
        ({"choices": ...}, "doc_to_choice: there is no 'choices'."),
        ({"choices": None}, "doc_to_choice: None is no list of choices."),
        ({"choices": []}, "doc_to_choice: [] is no list of choices."),
        ({"choices": "ab"}, "doc_to_choice: 'ab' is no list of choices."),
        ({"choices": ["squirrels", ""]}, "doc_to_choice: a choice is empty."),
        ({"choices": ["squirrels", 7]}, "doc_to_choice: 7 is no text."),
        ({"label": ...}, "doc_to_target: there is no 'label'."),
        ({"label": 2}, "Choice 2 is said to be right, and there are 2, counted from 0."),
        ({"label": -1}, "Choice -1 is said to be right, and there are 2, counted from 0."),
        ({"label": "bears"}, "'bears' is said to be right, and is none of the choices."),
        ({"label": None}, "None is said to be right, and is none of the choices."),
    ],
)
def test_a_broken_document_is_kept_with_its_problem(broken: dict[str, Any], problem: str, tmp_path: Path) -> None:
    document = {key: value for key, value in (SQUIRRELS | broken).items() if value is not ...}
    first, second, third = items(load(task_file(tmp_path)), [SQUIRRELS, document, SQUIRRELS])
    assert (second.index, second.gold, second.problem) == (1, None, problem)
    assert [(item.gold, item.problem, len(item.requests)) for item in (first, third)] == [(0, "", 2)] * 2


def test_what_cannot_be_graded_can_be_scored(tmp_path: Path) -> None:
    (item,) = items(load(task_file(tmp_path)), [SQUIRRELS | {"label": -1}])
    assert item.requests == (("Who hides filberts?", " squirrels"), ("Who hides filberts?", " whales"))


@pytest.mark.parametrize(
    ("name", "broken", "problem"),
    [
        ("winogrande", {"sentence": "No gap."}, "doc_to_target: substring not found."),
        ("winogrande", {"answer": ""}, "doc_to_text: there is no ''."),
        ("hellaswag", {"endings": None}, "process_docs: 'NoneType' object is not iterable."),
        ("hellaswag", {"label": ""}, "process_docs: invalid literal for int() with base 10: ''."),
        ("arc_easy", {"answerKey": "Z"}, "doc_to_target: 'Z' is not in list."),
    ],
)
def test_a_document_that_a_set_does_not_expect_is_kept(name: str, broken: dict[str, Any], problem: str) -> None:
    task = load(name)
    fine = DOCUMENTS[name][task.split][0]
    assert [item.problem for item in items(task, [fine, fine | broken])] == ["", problem]


def test_a_broken_example_is_a_problem_of_what_it_stands_before(tmp_path: Path) -> None:
    pool = [SQUIRRELS | {"question": "Who?", "label": 9}, SQUIRRELS | {"question": "Who else?"}]
    task = load(task_file(tmp_path, fewshot_config={"sampler": "first_n"}))
    (item,) = items(task, [SQUIRRELS], pool=pool, n_fewshot=1)
    assert item.problem == "An example before it has a problem. 9 is said to be right, and is none of the choices."
    assert item.requests == ()


@pytest.mark.parametrize("sampler", ["default", "first_n"])
def test_too_few_examples_are_told(sampler: str, tmp_path: Path) -> None:
    task = load(task_file(tmp_path, fewshot_config={"sampler": sampler}))
    with pytest.raises(BadInput, match="2 documents to draw 2 examples from"):
        items(task, [SQUIRRELS], pool=[SQUIRRELS, SQUIRRELS | {"label": 1}], n_fewshot=2)


def test_the_seed_decides_which_examples_are_drawn(tmp_path: Path) -> None:
    pool = [{**SQUIRRELS, "question": f"Who is number {number}?"} for number in range(50)]

    def drawn(seed: int) -> str:
        (item,) = items(load(task_file(tmp_path)), [SQUIRRELS], pool=pool, n_fewshot=5, seed=seed)
        return item.requests[0][0]

    assert drawn(1) == drawn(1) != drawn(2)


def test_a_template_may_make_the_choices_and_the_target(tmp_path: Path) -> None:
    keys = {"doc_to_choice": "{{choices|map('upper')|list}}", "doc_to_target": "{{choices[label]|upper}}"}
    (item,) = items(load(task_file(tmp_path, **keys)), [SQUIRRELS])
    assert (item.choices, item.gold) == (("SQUIRRELS", "WHALES"), 0)


def test_a_template_that_makes_no_list_is_told(tmp_path: Path) -> None:
    documents: list[Mapping[str, Any]] = [SQUIRRELS]
    (item,) = items(load(task_file(tmp_path, doc_to_choice="{{ {'a': 1} }}")), documents)
    assert item.problem == "doc_to_choice: it makes no list of texts."


def test_what_has_no_documents_has_no_items(tmp_path: Path) -> None:
    assert items(load(task_file(tmp_path)), []) == []
