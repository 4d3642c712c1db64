"""From a folder of submissions to points.

Imports assignment, sandbox and reports.
"""
