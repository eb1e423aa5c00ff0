"""`zhiwang doctor`: looks at everything that a host's process needs, and says what mends what is wrong.

It writes nothing and needs nothing to run: it is the first tool when nothing works. `local` looks at files and this
machine, `network` at whoever is dialled, `directory` at the signed facts; what only one folder understands (an owner's
database and sealing keys) is contributed by that folder (`zhiwang.wire.diagnosis.Contribution`).
"""
