"""What Python users get. `filbert` itself hands these out when they are first asked for.

checkup.py         what this machine has and what would help (`filbert doctor`)
gpt4all.py         the classes of the gpt4all package, as `filbert.compat` hands them out
gpt4all_engine.py  the loaded model behind them
gpt4all_files.py   where they find a model
model.py           `load`, the model it gives, `fidelity`, `bench`; with async twins
presets.py         what is kept with a model (`filbert set`)
"""
