"""The HTTP door: OpenAI's protocol on loopback.

answers.py            what OpenAI's routes answer
answers_anthropic.py  what Anthropic's routes answer
answers_ollama.py     what Ollama's routes answer
answers_responses.py  what /v1/responses answers
anthropic_shape.py    an answer in Anthropic's shape
app.py                the application, put together
bodies.py             requests as clients write them
bodies_anthropic.py   requests as Anthropic's clients write them
bodies_ollama.py      requests as Ollama's clients write them
bodies_responses.py   requests to /v1/responses
cluster.py            the server as an application of Ray Serve
cluster_options.py    what a Ray cluster serves
connections.py        connections of bounded number and patience
door.py               what is let in: names, pages, keys, sizes
draining.py           a server that is told to end
echo_shape.py         a prompt told again, before its answer or by itself
entry.py              who may come in, decided from how the server listens
error_bodies.py       our errors in each protocol's shape
fetched_images.py     images that requests name by an address of the web
json_route.py         what the routes of all protocols have in common
key_ring.py           the keys of a server that runs: found, limited, counted
keys.py               the keys, kept
leases.py             the private socket by which CLI and Python use our models
lent.py               what a route asks of a model, here or elsewhere
measured.py           what an answer took
metrics.py            numbers for Prometheus
offered.py            the models that may be asked for by name
ollama_models.py      models as Ollama's clients are told of them
ollama_pull.py        a pull as Ollama's clients watch it
ollama_shape.py       an answer in Ollama's shape
openai_shape.py       an answer in OpenAI's shape
openapi.py            what /openapi.json says
patience.py           until when a request is waited for
public_hosts.py       connections to hosts of the public internet only
readiness.py          whether the server takes requests
response.py           a worker's answer on its way to a client
response_items.py     messages, calls, results and thoughts of /v1/responses
response_store.py     responses that can be read again and gone on from
responses_shape.py    an answer in the shape of /v1/responses
routes/               the routes, a file a protocol
scopes.py             what a key of each scope may do
serve_options.py      how the server listens
start.py              a server's start: it answers while it loads
traced.py             an id, a count and a line of the log for each request
truncation.py         a conversation without its oldest turns
upstreams/            other servers whose models stand beside ours
vectors.py            texts as vectors
"""
