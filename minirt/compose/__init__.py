"""Compose files: several services of one project, made to be as the file says (compose-spec; docs.docker.com/compose).

May import minirt.engine, minirt.build, minirt.image, minirt.network and minirt.volume; PyYAML in text.py alone, jsonschema in
fields.py, watchfiles in watch.py. Read in this order:

    text.py        a file's YAML, and on which line each value stands
    variables.py   ${NAME:-default}, and the file .env
    fields.py      which fields there are, and what their values look like: compose-spec.json says so
    words.py       ... and what is wrong, in words
    merge.py       -f several files: the later ones change the first
    extend.py      a service that begins with what another says
    sources.py     a project's files as one document, with what they include
    project.py     all of it together: a project's services, networks, volumes, in the order of their dependencies
    service.py     what a service's things are called, and their labels
    options.py     a service -> the options of its containers
    resources.py   the networks and volumes that a project makes
    images.py      the images of its services
    contents.py    secrets and configs that are text
    ready.py       its containers, found and waited for
    crew.py        several things at the same time, each after those it has to come after
    oneoff.py      a container of its own: run
    up.py          containers are made, changed, started, and waited for
    down.py        ... and removed
    watch.py       ... and follow what changes on the host

A project is known by its containers' labels alone, which are docker compose's: there is no list of projects that could be wrong.
"""
