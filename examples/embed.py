"""Which sentences mean the same: the cosine of two vectors. Any model gives vectors; an embedder gives better ones."""

import filbert

SENTENCES = ["The cat sleeps on the sofa.", "A kitten naps on the couch.", "Share prices fell on Monday."]

with filbert.load("smollm2:135m") as model:
    vectors = model.embed(SENTENCES).vectors

for sentence, vector in zip(SENTENCES, vectors, strict=True):
    cosine = sum(x * y for x, y in zip(vectors[0], vector, strict=True))  # they have length 1
    print(f"{cosine:.3f}  {sentence}")
