"""Run a model and measure with it. The only room that touches llama.cpp, and only in children.

admission.py             who may use the context that requests share
answering.py             the child's side of a question: its answer, or which error
bounds.py                how many tokens a text has at most and at least, from its bytes
budget.py                the memory that the children of all models may take together
calibration.py           what this machine does with weights, measured once and kept
calibration_main.py      the child that times the kernels
calibration_model.py     files to time them with
capi.py                  the engine's C interface, for the scorer's process only
capi_layout.py           its declarations and defaults; tools/engine_upgrade.py writes it
cards.py                 what is a graphics card
chat_prompt.py           a conversation as the text that a model is shown
child.py                 a process that holds native code: start, ask, stop
children.py              the workers and the scorer of one model
divergence.py            how far models are from a full one, as their caller sees it
divergence_main.py       the child that compares them, and rounds tensors in memory
echo.py                  prompts told again, each token with its likelihood
fidelity.py              what compression cost, against the full model
forest.py                prompts and endings as a tree of tokens, packed into decodes
generation.py            an answer as it comes: chunks, finish, reply
importance.py            how much the columns of matrices are used
importance_main.py       the child that sums it
infill.py                text between what stands before it and what comes after
keep_alive.py            how long a model stays in memory, as it is written
kept_logits.py           what a model says of a window of a text, on disk
kept_schema.py           whether what was written keeps to a schema
lease.py                 a model that a running server holds
lifeline.py              the child's end of the pipes: it ends with its caller
likelihood.py            from logits to log-likelihoods
load_options.py          how a model may be loaded: what a person chooses
load_plan.py             how its children are loaded: context, slots, memory
model.py                 one model over its children: text, vectors, ranks, scores
pool.py                  models that many ask for: lent, kept for a while, unloaded
pooled.py                vectors and ranks of texts, batch by batch
probe.py                 whether the engine works here
probe_main.py            the child that tries it
quantiser.py             the rows of a tensor in another type, and how much is lost
quantiser_main.py        the child that makes them
relay.py                 a worker's answer as raw bytes, for the gateway
sampling.py              what a request asks: temperature, seed, stop, schema
schema.py                JSON schemas that an answer can be held to
schema_bounds.py         a schema narrowed so that an answer held to it ends within its tokens
schema_guided.py         a schema as llguidance's grammar, for what the engine's own does not hold
schema_integers.py       bounds of whole numbers as the engine holds them
score_and_perplexity.py  score and perplexity, with their provenance
scorer.py                the child that measures, as its caller sees it
scorer_main.py           the scorer itself: windows of a text, endings of a prompt, each token of a sequence
scoring.py               how much the scorer decodes at once
side_by_side.py          two models in one scorer
sight.py                 images in a conversation: which models see them
slots.py                 which slot an answer takes, so that owners stay apart
speculation.py           n-gram speculation, and which requests go without
spelling.py              where the engine's two routes spell a wish differently
thinking.py              models that think before they answer, and what they are told of it
threads.py               threads and the OpenMP runtime
token_scorer.py          what a measurement asks of a model, be it here or on another server
tool_calls.py            calls in what a model writes, as it writes it
tools.py                 tools: how a model is shown them, and what a call is held to
transport.py             the one way to a model: a body to a route, events back
waiting.py               what an event loop may do itself, without a thread
worker.py                the child that answers, as its caller sees it
worker_main.py           the worker itself: llama-server on a socket
"""
