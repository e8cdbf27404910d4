"""torchmotif: what an atomic-resolution STEM image is made of.

Names are loaded when they are first used, so that importing the package costs almost nothing; ``__init__.pyi``
lists them for type checkers and editors.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
