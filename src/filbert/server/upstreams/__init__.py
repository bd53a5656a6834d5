"""Other servers whose models stand beside ours: vLLM, another Filbert, a cloud. What they say is data, never trusted.

events.py     what another server writes, as the events of a worker
hops.py       the servers that a request has passed
model.py      a model of another server, asked as one of ours
options.py    where another server is, and how it is asked
registry.py   all of them, and the models that they offer
upstream.py   one of them: asked over HTTP, looked after
"""
