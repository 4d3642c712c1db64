"""Build, check and measure the course; run from the repository root as `python -m tools.NAME`. Not
part of the package.
"""
