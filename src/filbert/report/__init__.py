"""Numbers as people read them: with their interval, their baseline and the command that makes them again.

chart.py        distributions and tables as pictures
measurement.py  a number and where it comes from
page.css        how a page looks: light, dark, on a phone and on paper
page.py         a report as one HTML file, or as Markdown
statistics.py   standard errors, intervals, and tests of whether two samples differ
table.py        a table for a terminal, a pipe or Markdown
"""
