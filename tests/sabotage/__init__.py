"""The clauses of rules R1 to R6, each left out once, and the test that must notice: see `tests.sabotage.test_clauses`.

The product has no switch for any of this: in a process of its own, methods are replaced and the text of a Lua script is
changed as it is loaded. A suite that passes with a rule removed would prove nothing with it in place.
"""
