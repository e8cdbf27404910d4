"""torchmotif: what an atomic-resolution STEM image is made of.

Names are loaded when they are first used, so that importing the package costs almost nothing; ``__init__.pyi``
lists them for type checkers and editors.
"""

import lazy_loader

_public, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    if name == "__version__":  # of the installed distribution: read when it is asked for
        from importlib.metadata import version

        return version(__name__)
    return _public(name)
