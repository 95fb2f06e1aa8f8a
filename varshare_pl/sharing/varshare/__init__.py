"""VarShare, its variants, and the layers that they share."""

from varshare_pl.sharing.varshare.controlled_prior import VarShareControlledPrior
from varshare_pl.sharing.varshare.deterministic import VarShareDeterministic
from varshare_pl.sharing.varshare.learned_prior import VarShareLearnedPrior
from varshare_pl.sharing.varshare.linear import VarShareLinear
from varshare_pl.sharing.varshare.low_rank import VarShareLowRank
from varshare_pl.sharing.varshare.method import VarShare

__all__ = [
    "VarShare",
    "VarShareControlledPrior",
    "VarShareDeterministic",
    "VarShareLearnedPrior",
    "VarShareLinear",
    "VarShareLowRank",
]
