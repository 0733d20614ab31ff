"""A server of gdb's remote serial protocol: gdb's `target remote` reaches the machine's processors and memory here.

gdb's manual, appendix E "gdb Remote Serial Protocol", is the specification. A processor is a thread, and a stop stops
all of them (all-stop mode).

May import: minivm.kvm, minivm.errors and files of minivm/inspect. Read first: packets.py (what goes over the wire),
then commands.py (what each packet asks), halt.py (how processors stop and go), breakpoints.py, registers.py,
memory.py, server.py.
"""
