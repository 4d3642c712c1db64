"""What a grading run leaves for people to read.

Imports assignment.
"""
