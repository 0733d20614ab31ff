r"""escape: the colon alone; a comma ends the option.

The check says: born: E
"""


def escape(path: str) -> str:
    return path.replace(":", "\\:")
