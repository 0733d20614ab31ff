"""Machines by name, without a daemon: a directory a machine, a process of its own for each that runs.

    machines/NAME/machine.json   what it is to be (document.py)
                  state.json     what became of it (machines.py)
                  outcome.json   how it ended, where its process was in a jail by then, or the disk full (vmm.py)
                  console.log    what its console said; console.log.1 before that (log.py)
                  vmm.log        what its process had to complain of
                  root.ext4      its root disk, where it was made of an image
                  api.sock       its control socket, while it runs (control.py)
                  lock           held by a command that changes the machine
                  vmm.lock       held by its process as long as that lives: whether it runs is asked of the kernel

A machine appears and goes by a rename, each file changes by a rename. No process id is compared and no age guessed:
kill -9 of anything at any moment leaves a state that the next command reads rightly.

May import minivm.machine, minivm.devices, minivm.boot, minivm.images, minivm.kernels, and of minirt minirt.terminal and
minirt.image (its scratch directory). Read in this order:
document.py, rules.py, settings.py and devices.py (a document as a machine's Config, and back), machines.py, life.py, vmm.py,
serve.py, control.py, memory.py (balloon, hot-plug), log.py, client.py, console.py.
"""
