"""Docker's Engine API (1.40 to 1.50), on a Unix socket or over TCP: `minirt serve`. The same calls into the engine as the
commands make, so that the docker command line and what else speaks this API drives it.

May import minirt.engine, minirt.image, minirt.build, minirt.network, minirt.volume, minirt.terminal and minirt.linux; h11 and
the standard library. Read in this order:

    http.py        a connection: requests, answers, being taken over
    router.py      which function answers a request
    answer.py      ... and is asked to
    errors.py      status codes
    server.py      listening

    waiting.py     those who wait for a container to start
    pump.py        between a client and a container's monitor
    lines.py       what takes a while, told as it goes on
    create.py      a body of JSON -> options of `minirt run`

and the routes (routes.py), a file for each noun of the API: system.py, containers.py, streams.py, execs.py, files.py, usage.py,
images.py, build.py, networks.py, volumes.py, swarm.py.
"""
