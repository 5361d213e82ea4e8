"""Which trained parameters a Kronecker-factored curvature describes, and which it leaves to their
diagonal, so that nothing is dropped in silence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LEAST_SHARE = 0.5
"""Of the trained parameters; below it the Kronecker-factored curvature is refused."""


class CoverageError(ValueError):
    """Too small a share of the trained parameters lies in matrices that can be factored."""

    def __init__(self, coverage: Coverage) -> None:
        listed = ", ".join(f"{one.name} ({one.reason})" for one in coverage.left_out[:5])
        more = len(coverage.left_out) - 5
        super().__init__(
            f"EK-FAC describes only {coverage.share:.0%} of the {coverage.parameters:,} trained "
            f"parameters of this network, and at least {LEAST_SHARE:.0%} are needed; left out: "
            f"{listed}{f' and {more} more' if more > 0 else ''}. The method “curvature” has no "
            "such limit."
        )
        self.coverage = coverage


@dataclass(frozen=True)
class LeftOutParameter:
    """A trained parameter outside the Kronecker factors; it keeps its own diagonal curvature."""

    name: str
    size: int
    reason: str


@dataclass(frozen=True)
class Coverage:
    parameters: int
    """P, all trained ones."""
    left_out: tuple[LeftOutParameter, ...]

    @property
    def share(self) -> float:
        """Of the trained parameters that lie in Kronecker factors."""
        return 1 - sum(one.size for one in self.left_out) / self.parameters

    def require(self, least: float = LEAST_SHARE) -> None:
        """Raises CoverageError below `least`."""
        if self.share < least:
            raise CoverageError(self)

    def to_json(self) -> dict[str, Any]:
        return {
            "share": self.share,
            "left_out": [
                {"parameter": one.name, "size": one.size, "reason": one.reason, "kept": "diagonal"}
                for one in self.left_out
            ],
        }
