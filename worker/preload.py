"""First import of the fork server: it must end with the worker, even one killed so hard that it could not say so."""

from core.processes import die_with_parent

die_with_parent()
