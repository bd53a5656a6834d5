"""What Python users get. `filbert` itself hands these out when they are first asked for.

checkup.py  what this machine has and what would help (`filbert doctor`)
model.py    `load`, and the model it gives, with async twins
presets.py  what is kept with a model (`filbert set`)
"""
