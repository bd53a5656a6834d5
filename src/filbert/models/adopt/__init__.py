"""Model files that other programs have: found, named, and used where they lie.

found.py      what is found, and safe ways to look for it
gpt4all.py    GPT4All: the Python package's folder, the window's, the one in its settings
hub_cache.py  the Hugging Face cache
importing.py  from what was found to names in the store
jan.py        Jan
llama_cpp.py  llama.cpp's own cache
lm_studio.py  LM Studio
naming.py     what a found file is called
ollama.py     Ollama: manifests that name blobs
"""
