"""Containers as a person thinks of them: run one, with docker's words for what it may have.

May import minirt.oci, minirt.runtime (the lines of ps), minirt.image, minirt.network, minirt.volume, minirt.state,
minirt.terminal, minirt.plan and minirt.linux. Read in this order:

    options.py    everything that `run` can be asked for, with its default
    values.py     docker's ways to write a size, a device, a limit
    mounts.py     ... and what is to be mounted
    attachments.py  ... which networks, ports, name servers
    sharing.py    ... which namespaces of others, security.py: what --security-opt says
    spec.py       options and an image's configuration -> config.json
    images.py     the image that it stands on
    container.py  a container's directory: made, found, removed
    owner.py      ... and whose it is
    volumes.py    ... and which volumes it uses
    gc.py         what a killed minirt leaves
    context.py    what its plan is compiled from, and what its birth finds on the host
    session.py    its birth, barrier by barrier, and our stay with it
    run.py        all of it together

    planned.py    the same, only shown, cut, or made to fail
    bundle.py     the same as a bundle for another runtime

and for containers that nobody stays with:

    monitor.py    the monitor (csrc/monitor), and what it is told
    left.py       ... and given
    asked.py      what they were created with
    start.py      create, start: a birth as the monitor's child
    exits.py      how it ended; restarts.py: when it is started again
    ended.py      what the monitor runs in the end: tidy up, start again
    restore.py    ... which a server does for those whose monitor was killed, and after a boot
    removal.py    is it running? away with it
    health.py     whether they are well; probe.py: one look at that
    update.py     other limits
    control.py    stop, kill, pause, wait, rename
    log_driver.py  where what they write is kept
    log_reader.py  ... its files, from the beginning or from the end
    logs.py       what they wrote
    moments.py    since when, until when, in people's words
    events.py     what happens to them
    attach.py     their streams, with others
    exec.py       one more process in them
    execs.py      ... known by an id, with a monitor of its own
    exec_start.py   ... begun, exec_ended.py: its end
    changes.py    what they changed
    stats.py      what they use
    inspect.py    all that is known of one
    host_config.py  ... and what it was asked for
    container_view.py  lists, and their filters
    networks.py   networks in their words: connected, disconnected, made, removed
    volume_view.py, image_view.py  volumes and images in their words; filters.py: who is chosen
    disk.py, disk_view.py  what all of it takes; prune.py: what nobody uses; host_info.py: the engine and its host

    files/        a container's files from outside: cp
"""
