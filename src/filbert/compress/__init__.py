"""Smaller files of models, and what they cost.

allocate.py              which type each tensor gets, so that the file is no larger than it may be
blocks.py                what a type leaves continuous: scales and minima
card.py                  a model card: what a file says of itself and of its making
compress_options.py      how hard the best file of a size is looked for
convert.py               a model as Hugging Face keeps it, as a GGUF file
converter.py             llama.cpp's own converters, of the engine's version
converter_main.py        the child that runs one of them
distil.py                a file trained to predict what its source does
distil_main.py           the child that trains it
effort.py                better files at the same bytes, kept where no kind of text got worse
equalise.py              the source re-scaled, so that it rounds better
extra.py                what only some of it needs, and whoever wants that installs
gradient.py              sensitivities by gradients, with torch
gradient_main.py         the child that computes them
imatrix.py               importance matrices: which columns are used
making.py                what a file says of its making, in its header
measure.py               what a file lost, beside its source
network.py               models in torch, as a GGUF file has them
optimise.py              the best file of a size, from a table of what each tensor loses
plan.py                  what each tensor becomes, and how large the file will be
prepare.py               what all sizes of a model are made from, measured once and kept
publish.py               a release to the hub
quantise.py              write it, tensor by tensor
recipe.py                which type each tensor gets: llama.cpp's mixes, and yours
reference_main.py        the child that runs the source with transformers
refine.py                mixes of one size, measured as they would run
release.py               a model in several sizes: a folder to hand on
search.py                from what a person wants to a plan
sensitivity.py           what each tensor costs in each type: a table
staging.py               what a converter sees of a model: what was checked, and no code
swap.py                  that table, measured by rounding tensors in a loaded model
symmetry.py              factors that a network does not notice
texts.py                 the texts that ship, to calibrate and to check with
verify.py                whether a converted model says what its source says
wanted.py                what a file is to be, in a person's words
"""
