"""Pictures: one function for each, matplotlib axes in and out, the same colours for a motif in all of them.

Positions are (row, col) in pixels. Where no axes are given, a figure is opened by pyplot, so that notebooks show it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
