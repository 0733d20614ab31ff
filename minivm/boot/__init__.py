"""How a guest starts: from the bytes of a kernel file to what lies in memory and stands in the registers.

May import: minivm.errors, the addresses of devices (minivm.devices) and other files here; no KVM (all of it is
arithmetic that a test can check without a machine). Read first: start.py (what every way of starting produces), then
longmode.py, bzimage.py, pvh.py; acpi.py for what a kernel is told of the machine. A new format is one file
with a `prepare` function and a line in formats.py.
"""
