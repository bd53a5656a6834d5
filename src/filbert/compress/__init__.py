"""Smaller files of models, and what they cost.

imatrix.py               importance matrices: which columns are used
plan.py                  what each tensor becomes, and how large the file will be
quantise.py              write it, tensor by tensor
recipe.py                which type each tensor gets: llama.cpp's mixes, and yours
sensitivity.py           what each tensor costs in each type: a table
swap.py                  that table, measured by rounding tensors in a loaded model
texts.py                 the texts that ship, to calibrate and to check with
"""
