"""Harnesses for a coverage-guided fuzzer (atheris), and the inputs that they start from.

A harness is a function of bytes that returns where all is well and raises where it is not.
`make fuzz SECONDS=600` runs all of them and keeps what they find in `.cache/fuzz`;
`tests/property/test_corpus.py` replays the inputs in `corpus/`, with no fuzzer needed.
"""
