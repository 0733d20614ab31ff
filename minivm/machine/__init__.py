"""One machine: built from a list of operations, run by a loop, attended by the thread that started it.

May import: minivm.errors, minivm.kvm, minivm.boot, minivm.devices, minivm.inspect, and of minirt the trace, and for --jail
minirt.plan and minirt.linux.
Read first: plan.py (the machine as a list), then perform.py (what each call does) and machine.py (the whole), bus.py and
loop.py (what happens at an exit), foreground.py (terminal, signals and time meanwhile).
"""
