"""Explicit-state models of rules R1, R3, R4 and R6, and the tests that explore them.

``explorer`` visits every interleaving; ``rules`` lists the clauses, each of which can be left out; the other modules
are one small model each. ``python -m tests.model`` prints what goes wrong without each clause.
"""
