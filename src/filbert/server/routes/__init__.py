"""Routes, a file a protocol. Thin: parse, call, answer.

openai.py  OpenAI's: models, chat, completions, embeddings
"""
