"""What a job will cost: plain arithmetic on facts of its data and on what earlier runs took. No torch, no SQL."""

from core.estimating.course import Course, course_of
from core.estimating.estimate import estimate, missed
from core.estimating.observing import Spent, observe
from core.estimating.rates import Observation, Profile, Rates
from core.estimating.work import Device, Part, Work

__all__ = [
    "Course",
    "Device",
    "Observation",
    "Part",
    "Profile",
    "Rates",
    "Spent",
    "Work",
    "course_of",
    "estimate",
    "missed",
    "observe",
]
