"""Words on the command line, each to one call into the engine (or image, oci). Read main.py first.

A command's parser is built, and its module imported, only when it is the one that was named: `--help` and the OCI
path load almost nothing.
"""
