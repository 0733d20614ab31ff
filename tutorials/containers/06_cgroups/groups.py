"""Make control groups as minirt makes those of containers, and leave them.

The words: what to say when they are made, a directory's name, and NAME=RESOURCES for each (JSON); a name that comes twice is the
same group again.
"""

import json
import sys

from minirt.linux import cgroup2

ready, top, *wanted = sys.argv[1:]
for word in wanted:
    name, _, text = word.partition("=")
    try:
        cgroup2.create(name, json.loads(text), path=f"/{top}/{name}")
    except cgroup2.CgroupError as error:
        print(f"{name}={error}")
print(ready, flush=True)
sys.stdin.readline()
