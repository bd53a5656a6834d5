"""An answer, as it comes, and what it took."""

import filbert

with filbert.load("smollm2:135m") as model:
    answer = model.generate("Why is the sky blue? Answer in two sentences.", max_tokens=80)
    for chunk in answer:
        print(chunk.text, end="", flush=True)
    reply = answer.reply()
    print(f"\n{reply.usage.completion_tokens} tokens, {reply.timings.generation_tps:.0f} a second")
