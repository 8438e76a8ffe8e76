"""What the service answers, as pydantic models. Fields a newer server adds are kept, not refused."""

from graft.types.access import Key, NewKey, Quotas, Scope, Usage
from graft.types.base import Health, Page, Resource
from graft.types.datasets import ClassCount, Column, Dataset, DatasetReport, Fault, Reading, Sample
from graft.types.episodes import EpisodeFigure, EpisodeReport
from graft.types.errors import ErrorBody
from graft.types.estimates import Estimate, Figure
from graft.types.imports import Import
from graft.types.jobs import DryRun, Event, Job, MethodSpec, Progress, Step
from graft.types.menus import BaseModelCard, MethodCard
from graft.types.models import ItemError, LabelScore, Model, ModelFile, Prediction, Predictions, Publication
from graft.types.rankings import Candidate, Difference, Ranking
from graft.types.reports import Calibration, ClassRow, CurvePoint, Metric, Mistake, Report
from graft.types.shifts import ClassShift, Cloud, Driver, LabelShift, Shift, ShiftAfter, ShiftTest
from graft.types.verdicts import Arm, ClassChange, Forgetting, GuardCheck, GuardReport, Judgement
from graft.types.webhooks import Delivery

__all__ = [
    "Arm",
    "BaseModelCard",
    "Calibration",
    "Candidate",
    "ClassChange",
    "ClassCount",
    "ClassRow",
    "ClassShift",
    "Cloud",
    "Column",
    "CurvePoint",
    "Dataset",
    "DatasetReport",
    "Delivery",
    "Difference",
    "Driver",
    "DryRun",
    "EpisodeFigure",
    "EpisodeReport",
    "ErrorBody",
    "Estimate",
    "Event",
    "Fault",
    "Figure",
    "Forgetting",
    "GuardCheck",
    "GuardReport",
    "Health",
    "Import",
    "ItemError",
    "Job",
    "Judgement",
    "Key",
    "LabelScore",
    "LabelShift",
    "MethodCard",
    "MethodSpec",
    "Metric",
    "Mistake",
    "Model",
    "ModelFile",
    "NewKey",
    "Page",
    "Prediction",
    "Predictions",
    "Progress",
    "Publication",
    "Quotas",
    "Ranking",
    "Reading",
    "Report",
    "Resource",
    "Sample",
    "Scope",
    "Shift",
    "ShiftAfter",
    "ShiftTest",
    "Step",
    "Usage",
]
