"""Conversations.

attach.py            a file that goes with a question: a text as text, an image as an image
conversation.py      a session with branches, which the history keeps while it goes on
docstrings.py        what a docstring says of a function and its parameters
full_text.py         search in what was said
history.py           every chat, in one SQLite file or a database by its URL
history_database.py  its tables, and what it says when it is damaged
record.py            what is kept of a conversation: a tree of what was said
rows.py              rows of the tables out of records, and back
session.py           a conversation that remembers, and forgets whole turns when the context is full
tables.py            the tables of a history, and the versions they have had
tool_loop.py         an answer in which functions are called
tool_options.py      how they may be called: rounds, seconds, characters
tools.py             Python functions as tools
transfer/            chats in and out: Markdown, JSON, GPT4All's and ChatGPT's files
"""
