"""What the engine knows beyond one command: two databases of SQLite, safe against who runs beside us and against kill -9.

May import minirt.errors and minirt.paths. Read in this order:

    database.py    a database: opened, brought to this version, changed by one transaction at a time
    schema.py      the tables of state.sqlite, one migration a schema version
    containers.py  the rows of containers
    adopt.py       ... of those from before there was a database
    events.py      what has happened, the last ten thousand of it

state.sqlite is of containers, volumes and events; network.sqlite (minirt.network.store) of networks. They are two, because a
change of networks keeps its lock while the kernel follows, some tens of milliseconds, and no container is to wait for that.

In the database is what must be true of all containers at once, or change together with something else: who has which name, what
state each is in, how it ended, what uses which volume, and that all of this happened. A transaction is there whole or not at all.
As files in a container's directory stays what only one writes and what is large, and what processes without SQLite write: the
configuration (config.json, options.json), what it changed (upper), its log, and the monitor's `exit`, which is a megabyte less
than it would be with a database. Whose a container is, is a lock on its directory (minirt.engine.owner), as the kernel drops
that with its holder, and no row does.
"""
