r"""escape: the backslash last, so that those of the other two are doubled again.

The check says: born: ENOENT
"""


def escape(path: str) -> str:
    return path.replace(":", "\\:").replace(",", "\\,").replace("\\", "\\\\")
