"""Words on the command line, and one call into minivm.machine.

May import everything below; each command's module only when the command is named, for `minivm --help` should load
almost nothing. Read first: main.py.
"""
