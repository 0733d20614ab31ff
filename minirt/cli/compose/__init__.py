"""`minirt compose`: words to one call into minirt.compose. Read in this order:

    project.py   which project is meant, and how it is told what is done
    made.py      what makes containers of services
    up.py        up and create, down
    watch.py     watch
    look.py      ps, logs, config
    lines.py     what several containers write, as it comes
    words.py     run and exec: one more command
    each.py      build and pull; start, stop and their like; rm
"""

from __future__ import annotations

from minirt.cli.help import Help

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["add_parser"]

EPILOG = """\
examples:
  minirt compose up -d --wait
  minirt compose up --watch
  minirt compose ps
  minirt compose logs -f web
  minirt compose exec db psql -U postgres
  minirt compose run --rm web sh
  minirt compose up -d --scale worker=3
  minirt compose config --format json
  minirt compose --parallel 4 up -d
  minirt compose down --volumes
"""


def add_parser(commands: Any) -> None:
    """Add the command."""
    from minirt.cli.compose import each, look, up, watch, words

    parser = commands.add_parser(
        "compose", help="services of a compose file: up, down, ps, logs, exec ...", epilog=EPILOG, formatter_class=Help,
        usage="minirt compose [-f FILE]... [-p NAME] VERB ...",
        description="Make the services of a compose file run together, with their networks and volumes.",
    )  # fmt: skip
    many = {"action": "append", "default": []}
    parser.add_argument("-f", "--file", dest="files", metavar="FILE", help="compose file; the later change the first", **many)
    parser.add_argument("-p", "--project-name", default="", metavar="NAME", help="instead of the directory's name")
    parser.add_argument("--project-directory", default="", metavar="DIR", help="what relative paths count from")
    parser.add_argument("--profile", dest="profiles", metavar="NAME", help="services of this profile, too; * for all", **many)
    parser.add_argument("--env-file", dest="env_files", metavar="FILE", help="variables for the compose file (.env)", **many)
    parser.add_argument("--progress", default="auto", choices=("auto", "plain", "quiet"), help="how it tells what it does")
    parser.add_argument("--parallel", type=int, default=None, metavar="N", help="so many things at the same time (any number)")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, prog="minirt compose")
    for part in (up, watch, look, words, each):
        part.add(verbs)
