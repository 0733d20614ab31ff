import sys

version = sys.version_info
sys.path.insert(0, f"{sys.executable.rpartition('/bin/')[0]}/lib/python{version.major}.{version.minor}/site-packages")
try:
    from minirt import preload
except ImportError:  # an editable installation, which a .pth file points to
    import site

    site.main()
    from minirt import preload
sys.path.append(sys.path.pop(0))
commands = ("create", "start", "run", "exec", "kill", "delete", "state", "list", "ps", "pause", "resume", "update", "events")
modules = preload.install(next((word for word in sys.argv if word in commands), "other"))
from minirt.runtime.command import begin

begin(modules)
