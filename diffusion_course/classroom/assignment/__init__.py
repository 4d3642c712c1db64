"""An assignment: what is asked of whom, as notebooks and as the grader's secrets.

Imports exercises.
"""
