"""C10: N-pairs and the angular loss against plain triplets, over several benches."""

from experiments.claims.claim import Claim, Results, Verdict
from experiments.claims.effects import RULE


def judge(results: Results) -> Verdict:
    """By the rule in `CLAIM.statistic`."""
    raise NotImplementedError


CLAIM = Claim(
    name="C10",
    claim=(
        "N-pairs and the angular loss are generally superior to the vanilla triplet "
        "loss."
    ),
    prediction=(
        "True against triplets of one random negative; not against the same loss with "
        "all negatives of the batch, nor against well-mined triplets: studies under "
        "matched conditions have N-pairs below those. Holds in part."
    ),
    statistic=(
        "Test Recall@1, N-pairs minus triplet and angular minus triplet, 24 paired "
        "seeds on each of four benches (drawn classes, glyphs, glyphs whose two cases "
        "are one class, digits), all searched alike. Vanilla is a triplet loss without "
        "mining, of one random negative or of all. Decides: the mean over benches of "
        "each of the two differences from each of the two triplets, random-effects "
        "(DerSimonian and Laird), with the interval of Hartung and Knapp, since four "
        "benches are few. First: N-pairs minus random triplets. "
        f"{RULE} Beside it: the prediction interval of a further bench, semi-hard "
        "triplets, MAP@R, and what papers have published."
    ),
    studies=("losses-modes", "losses-glyphs", "losses-cases", "losses-digits"),
    judge=judge,
)
