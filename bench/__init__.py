"""Measurements: `python -m bench` prints them all; each file says what it compares with what."""
