"""How likely a model finds each ending of a prompt: a multiple-choice question without any text generated."""

import filbert

PROMPT = "The capital of Italy is"
ENDINGS = [" Rome", " Paris", " cheese"]

with filbert.load("smollm2:135m") as model:
    for ending, scored in zip(ENDINGS, model.score(PROMPT, ENDINGS), strict=True):
        print(f"{scored.loglikelihood:8.3f} nats  {PROMPT}{ending}")
