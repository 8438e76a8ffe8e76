"""Content negotiation by the `Accept` header (RFC 9110, section 12.5.1)."""

from collections.abc import Sequence


def preferred(accept: str | None, offers: Sequence[str]) -> str:
    """The media type to answer with: the first of `offers` is our default.

    The highest weight wins; of equals the one that the client named more exactly, then the order of `offers`.
    Where nothing fits, the default is sent rather than an error, as the RFC allows.
    """
    ranges = [_parse(part) for part in (accept or "*/*").split(",")[:50] if part.strip()]
    best, best_rank = offers[0], (0.0, -1)
    for offer in offers:
        quality, exactness = _weight(offer, ranges)
        if quality > 0 and (quality, exactness) > best_rank:
            best, best_rank = offer, (quality, exactness)
    return best


def _parse(part: str) -> tuple[str, float]:
    """One range of the header: media type and weight; an ill-formed weight counts as 0."""
    media, *parameters = (piece.strip().lower() for piece in part.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            return media, _quality(value.strip())
    return media, 1.0


def _quality(value: str) -> float:
    try:
        quality = float(value)
    except ValueError:
        return 0.0
    return quality if 0 <= quality <= 1 else 0.0


def _weight(offer: str, ranges: list[tuple[str, float]]) -> tuple[float, int]:
    """Weight of an offer by the most exact range that covers it, and how exact that is (0 to 2)."""
    found = (0.0, -1)
    for media, quality in ranges:
        exactness = _exactness(offer, media)
        if exactness > found[1]:
            found = quality, exactness
    return found


def _exactness(offer: str, media: str) -> int:
    if media == offer:
        return 2
    if media == f"{offer.partition('/')[0]}/*":
        return 1
    return 0 if media == "*/*" else -1
