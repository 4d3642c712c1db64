"""Where a submission runs and how the grader speaks with it. Nothing of it is believed.

Imports exercises.
"""
