"""What the textbooks say of ReLU and its rivals, decided by a study."""

from __future__ import annotations

from reluexp.claims.catalogue import CLAIMS
from reluexp.claims.claim import Claim, Evidence, Part
from reluexp.claims.field import Field, Group, Placed, SettledResults
from reluexp.claims.table import claim_parts, claim_table, evidence_of, told_parts

__all__ = [
    "CLAIMS",
    "Claim",
    "Evidence",
    "Field",
    "Group",
    "Part",
    "Placed",
    "SettledResults",
    "claim_parts",
    "claim_table",
    "evidence_of",
    "told_parts",
]
