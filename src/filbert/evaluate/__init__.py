"""What a model knows, measured: tasks of questions with answers, in lm-evaluation-harness's own format.

items.py           what is scored: documents as requests, few-shot examples before them
pairs.py           the perplexity of answers, each given its prompt
pairs_compared.py  two models on the same pairs
processors.py      the Python that HellaSwag's and WinoGrande's files name, ours
task.py            a task as its file tells it; those of the paper are in the folder tasks
task_file.py       a YAML file and those it includes
templates.py       Jinja templates over documents, rendered in a child
templates_main.py  that child
"""
