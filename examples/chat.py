"""A conversation that remembers what was said."""

import filbert

with filbert.load("smollm2:135m") as model:
    session = model.chat(system="You answer in one short sentence.", temperature=0, max_tokens=60)
    for question in ("My name is Ada. What is a good name for a squirrel?", "What is my name?"):
        print(f"> {question}\n{session.send(question).text}\n")
