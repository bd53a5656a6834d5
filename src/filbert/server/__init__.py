"""The HTTP door: OpenAI's protocol on loopback.

app.py            the application, put together
bodies.py         requests as clients write them
door.py           what is let in: hosts, origins, sizes
error_bodies.py   our errors in each protocol's shape
json_route.py     what the routes of all protocols have in common
leases.py         the private socket by which CLI and Python use our models
measured.py       what an answer took
metrics.py        numbers for Prometheus
offered.py        the models that may be asked for by name
openai_shape.py   an answer in OpenAI's shape
response.py       a worker's answer on its way to a client
routes/           the routes, a file a protocol
serve_options.py  how the server listens
traced.py         an id, a count and a line of the log for each request
"""
