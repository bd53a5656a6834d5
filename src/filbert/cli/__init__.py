"""The terminal door: a file a command. Thin: parse, call, show.

app.py                 the commands by name
bench.py               filbert bench
catalogue_table.py     entries of the catalogue, shown
chat.py                filbert chat
chat_answer.py         how an answer is shown while it comes
chat_commands.py       what begins with / in a conversation
chat_input.py          what a person types
chats.py               filbert chats: what was said before
command_group.py       what is wrong with a command line, and the nearest to what nobody knows
completion.py          what shells complete
compress.py            filbert compress
compress_asked.py      what `filbert compress` was asked for, as plans
compressing_flags.py   flags and the file of commands that make one of a model
config.py              filbert config, and what each setting takes
console.py             printing, progress, what was piped in
convert.py             filbert convert
default_model.py       the model of a command that names none
doctor.py              filbert doctor
embed.py               filbert embed
evaluate.py            filbert evaluate
fidelity.py            filbert fidelity
first_run.py           what is offered to somebody who has no model yet
fit.py                 filbert fit
flags_from_options.py  options classes to flags
highlight.py           colours for code, a line at a time
imatrix.py             filbert imatrix
import_models.py       filbert import
keys.py                filbert keys: who may use the server
list_models.py         filbert list
loading.py             how commands get their model
main.py                the way in: exit statuses, errors as sentences
markdown_layout.py     Markdown as lines of a terminal
markdown_screen.py     Markdown on the screen while it is written
measuring_flags.py      flags that the commands which measure have in common
ollama_words.py        commands by the names that Ollama's people type
perplexity.py          filbert perplexity
ps.py                  filbert ps, filbert stop
publish.py             filbert publish
pull.py                filbert pull
remove.py              filbert rm
report.py              filbert report
rerank.py              filbert rerank
score.py               filbert score
search.py              filbert search
serve.py               filbert serve
set.py                 filbert set
show.py                filbert show
styled.py              styled text in a terminal's cells
talk.py                a conversation under way in a terminal
"""
