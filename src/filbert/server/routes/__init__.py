"""Routes, a file a protocol. Thin: parse, call, answer.

anthropic.py  Anthropic's: messages, their tokens
health.py  whether the server lives and takes requests; its metrics
openai.py  OpenAI's: models, chat, completions, embeddings
"""
