"""Options of `dann`."""

from typing import ClassVar, Literal

from pydantic import Field

from core.contract.methods.deep import Aligned


class Dann(Aligned):
    """Training against a discriminator of the domains, whose gradients come back reversed."""

    title: ClassVar[str] = "Domain-adversarial network (DANN)"
    summary: ClassVar[str] = "Trains features by which a discriminator cannot tell the domains apart."
    when: ClassVar[str] = (
        "For large shifts with the same classes in like numbers; watched by its score, for it may fall while it trains."
    )
    paper: ClassVar[str] = (
        "Ganin, Ustinova, Ajakan, Germain, Larochelle, Laviolette, Marchand, Lempitsky: "
        "Domain-Adversarial Training of Neural Networks. JMLR 2016"
    )

    name: Literal["dann"] = "dann"
    discriminator: int = Field(default=256, ge=8, le=4096, description="Width of the discriminator's two layers.")
