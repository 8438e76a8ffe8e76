"""Pretrained networks without their heads: what a job starts from.

`identify` says cheaply which network and weights a name means; `load` builds it. One family, one small file.
"""

from worker.engine.backbones.backbone import Backbone, Base, Identity
from worker.engine.backbones.loading import Opened, identify, load, open_base

__all__ = ["Backbone", "Base", "Identity", "Opened", "identify", "load", "open_base"]
