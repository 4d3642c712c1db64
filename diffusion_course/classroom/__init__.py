"""The classroom kit: build assignments from the exercise registry, grade submissions without
trusting them.

`python -m diffusion_course.classroom build ...` and `... grade ...`; docs/instructors.md says how.
"""
