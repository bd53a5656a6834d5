"""Routes, a file a protocol. Thin: parse, call, answer.

health.py  whether the server lives and takes requests; its metrics
openai.py  OpenAI's: models, chat, completions, embeddings
"""
