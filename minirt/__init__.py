"""A container runtime and engine made of Linux system calls: minirt.plan first."""

__all__ = ["__version__"]

__version__ = "0.1.0"  # of the package too (pyproject.toml)
