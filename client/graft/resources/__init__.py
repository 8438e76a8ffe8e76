"""One class per noun of the service; they mirror its URLs."""

from graft.resources.datasets import Datasets
from graft.resources.jobs import Jobs
from graft.resources.keys import Keys
from graft.resources.menus import BaseModels, Methods
from graft.resources.models import Models

__all__ = ["BaseModels", "Datasets", "Jobs", "Keys", "Methods", "Models"]
