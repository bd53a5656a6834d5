"""Routes, a file a protocol. Thin: parse, call, answer.

anthropic.py      Anthropic's: messages, their tokens
health.py         whether the server lives and takes requests; its metrics
ollama.py         Ollama's: chat, generate, embed
ollama_models.py  Ollama's: models told of, pulled, made, copied, deleted
openai.py         OpenAI's: models, chat, completions, embeddings
responses.py      OpenAI's: responses
tokens.py         vLLM's: a model's tokens
"""
