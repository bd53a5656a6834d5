"""Smaller files of models, and what they cost.

card.py                  a model card: what a file says of itself and of its making
imatrix.py               importance matrices: which columns are used
making.py                what a file says of its making, in its header
measure.py               what a file lost, beside its source
plan.py                  what each tensor becomes, and how large the file will be
publish.py               a release to the hub
quantise.py              write it, tensor by tensor
recipe.py                which type each tensor gets: llama.cpp's mixes, and yours
release.py               a model in several sizes: a folder to hand on
sensitivity.py           what each tensor costs in each type: a table
swap.py                  that table, measured by rounding tensors in a loaded model
texts.py                 the texts that ship, to calibrate and to check with
"""
