"""What can be seen of a machine from outside: its exits, decoded and counted; its registers.

May import: minivm.kvm, minirt.plan.events. Read first: exits.py.
"""
