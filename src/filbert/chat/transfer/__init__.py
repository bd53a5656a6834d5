"""Chats in and out.

bring_in.py     a file of chats, whatever wrote it, into the history
chatgpt.py      ChatGPT's export: conversations.json, or the zip as it comes
gpt4all.py      GPT4All's .chat files
json_export.py  our own JSON, which holds everything
markdown.py     a chat to be read
qt_stream.py    the numbers and texts of Qt's QDataStream
"""
