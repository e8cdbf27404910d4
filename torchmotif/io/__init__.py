"""Reading micrographs: what is in a file, and one image of it with its calibration.

Names are loaded when they are first used: what is in a file can be said without torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
