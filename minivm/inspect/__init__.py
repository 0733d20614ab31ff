"""What can be seen of a machine from outside: its exits and their code, its time, its registers, its page tables; gdb's server.

May import: minivm.kvm, minivm.boot (where a kernel's file is read), minirt.trace. Read first: exits.py. Then, each by itself:

    profile.py, sites.py, disassembly.py, times.py   exits by guest function, the code there, where the time goes
    steps.py                                         an instruction at a time, and what it changed
    paging.py, mappings.py                           the page-table walk, and all of them at once
    core.py, vmcoreinfo.py                           memory and registers as an ELF core; what Linux says of itself there
    symbols.py, kallsyms.py, symbolfile.py           names for addresses, also those a stripped Linux carries
    probe.py, gdb/                                   what a debugger can have of this KVM, and gdb's remote protocol
"""
