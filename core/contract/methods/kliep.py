"""Options of `kliep`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from core.contract.methods.reweighting import Reweighting


class Kliep(Reweighting):
    """Source items weighed by the ratio of the domains' densities, a mixture of kernels on target items."""

    title: ClassVar[str] = "KLIEP"
    summary: ClassVar[str] = (
        "Estimates by maximum likelihood how much more often inputs like each source item come in the target, and "
        "weighs the items by it; then a linear classifier on frozen features."
    )
    when: ClassVar[str] = (
        "Inputs are drawn otherwise than in the source, but each kind occurs there; the kernel is chosen by itself."
    )
    paper: ClassVar[str] = (
        "Sugiyama, Nakajima, Kashima, von Buenau, Kawanabe: Direct Importance Estimation with Model Selection and Its "
        "Application to Covariate Shift Adaptation. NeurIPS 2007"
    )

    name: Literal["kliep"] = "kliep"
    centres: int = Field(default=100, ge=1, le=2000, description="Target items that carry a kernel.")
    gamma: Annotated[float, Field(gt=0, le=1e3)] | Literal["auto"] = Field(
        default="auto",
        description="The kernel exp(-gamma d^2 / median d^2); `auto` takes the one under which held-out target items "
        "are the most likely.",
    )
