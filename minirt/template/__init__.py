"""Go's templates, as `--format '{{.Names}}'` has them (pkg.go.dev/text/template; docs.docker.com/engine/cli/formatting).

Imports nothing of minirt but its errors. Read in this order:

    words.py      text -> words: text as it is, and what stands between {{ and }}
    parse.py      words -> a tree
    run.py        a tree and data -> text
    functions.py  what a template may call: Go's functions, and docker's
    show.py       Go's way to print a value

A template is data to be shown and never a program: it ends, reads nothing and writes nothing.
"""

from minirt.template.run import Template, TemplateError

__all__ = ["Template", "TemplateError"]
