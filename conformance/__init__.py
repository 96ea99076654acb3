"""A suite for anything that speaks this project's protocol: `python -m conformance http://HOST:PORT`.

It reads and judges from outside, with Python's standard library alone: an address is all that it knows. With
`--mongo URI` it writes documents of its own, and removes them again. docs/conformance.md has its rules.
"""
