"""The ground: what every other room stands on. It imports nothing of ours.

addresses.py       addresses of the network: which mean this machine, and which are anybody's
archives.py        zip files of others, and what reading a damaged one raises
database.py        tables in a file of our own, or in a database by its URL
errors.py          every error Filbert raises, with its exit status and HTTP status
files.py           files whole or not at all, locks, room on the disk, safe names, sha256, texts and sizes
images.py          images: checked, turned upright, made small, written anew
jobs.py            long work: progress, a folder that tells its story, cancel
log.py             the rotating log file
machine.py         cores, memory, load, processor, and whether the engine can run here
messages.py        a message, and a conversation split into whole turns
nearest.py         the names nearest to one that nobody knows
other_servers.py   other servers: their address, their key, what they say went wrong
pairs.py           pairs of a prompt and its answer
paths.py           where models, settings, jobs and the log are
runtime_folder.py  a folder for a child's socket, and what killed callers left of theirs
settings.py        options classes: defaults, file, variables, flags
sha256.py          how a sha256 is written
"""
