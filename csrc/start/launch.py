import gc

gc.disable()  # what is made in so short a life is not worth collecting, nor is loading all these modules being counted
import sys
from marshal import loads
from posix import stat

version = sys.version_info
site = f"{sys.executable.rpartition('/bin/')[0]}/lib/python{version.major}.{version.minor}/site-packages"
sys.path.append(site)
commands = ("create", "start", "run", "exec", "kill", "delete", "state", "list", "ps", "pause", "resume", "update", "events")
command = next((word for word in sys.argv if word in commands), "other")
debug = "--debug" in sys.argv  # then a trace of an error has the lines of the sources, which that file has not
try:
    if debug:
        raise ValueError
    # What an earlier call left (minirt/preload.py); first in it is the module that knows what to do with it.
    with open(f"{site}/minirt/__pycache__/oci-{command}.{sys.implementation.cache_tag}.bin", "rb", 0) as file:
        ready = loads(file.read())
    _, source, size, changed, _, code = ready[0]
    status = stat(source)
    if (status.st_size, status.st_mtime_ns) != (size, changed):
        raise ValueError(source)
    preload = type(sys)("minirt.preload")
    preload.__file__ = source
    exec(code, preload.__dict__)
except (OSError, ValueError, EOFError, TypeError, IndexError):
    ready = None
    try:
        from minirt import preload
    except ImportError:  # an editable installation, which a .pth file points to
        import site

        site.main()
        from minirt import preload
modules = preload.Modules("") if debug else preload.install(command, ready)
from minirt.runtime.command import begin

begin(modules)
