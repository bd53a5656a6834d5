"""Numbers as people read them: with their interval, their baseline and the command that makes them again.

measurement.py  a number and where it comes from
table.py        a table for a terminal, a pipe or Markdown
"""
