"""The fault campaign: everything that can go wrong under a log is made to go wrong, case by case.

A *scene* is something that a process does with its files (`scenes`). A *case* is a scene with one fault in it, or
stored files that were damaged, exchanged or restored. After each a fresh process starts over what is left, and a
*judge* looks at everything that was said and stored (`judge`): the case was *survived*, *refused* in words that name
the remedy, or it failed. `python -m campaign` runs them all and prints the table of docs/faults.md.
"""
