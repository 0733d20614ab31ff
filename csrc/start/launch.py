import sys
from marshal import loads

# This text is compiled at each start. So it is short: what it does is compiled already, by an earlier call (minirt/preload.py).
home = f"{sys.executable.rpartition('/bin/')[0]}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
sys.path.append(home)
try:
    path, code = loads(open(f"{home}/minirt.{sys.implementation.cache_tag}.bin", "rb").read())
    preload = {"__name__": "minirt.preload", "__file__": path}
    exec(code, preload)
except (OSError, ValueError, EOFError, TypeError):
    import site

    site.main()  # an editable installation is one that a .pth file points to
    import minirt.preload

    preload = vars(minirt.preload)
del sys.argv[0]  # -c; the program's name comes next
preload["begin"]()
