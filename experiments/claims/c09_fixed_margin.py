"""C9: one margin for classes that spread little and classes that spread much."""

import numpy as np

from experiments.claims.claim import Claim, Finding, Results, Verdict
from experiments.claims.effects import BENCHES, RULE, word
from experiments.claims.statistics import paired
from experiments.sweep.records import Record

TRIPLETS = ("triplet_all", "triplet_semi_hard", "triplet_hard")


def gap(record: Record) -> np.ndarray:
    """Recall@1 of queries of narrow classes minus that of wide ones, [seeds]."""
    return record.values("recall_0") - record.values("recall_1")


def log_share(record: Record) -> np.ndarray:
    """Log of wide classes' part of the gradient over their part of rows, [seeds]."""
    return np.log(record.values("mean_wide_gradient"))


def judge(results: Results) -> Verdict:
    """By the rule in `CLAIM.statistic`."""
    of = {bench: results[f"spreads-{bench}"].arms for bench in ("modes", "glyphs")}

    def compared(what: str, figure: object, other: str) -> list[Finding]:
        assert callable(figure)
        return [
            paired(
                f"{what}, {triplet} - {other}, {BENCHES[bench]}",
                figure(arms[triplet]),
                figure(arms[other]),
            )
            for bench, arms in of.items()
            for triplet in TRIPLETS
        ]

    def wide(record: Record) -> np.ndarray:
        return record.values("recall_1")

    harm, share = "Recall@1, narrow - wide classes", "log share of gradient, wide"
    decide = compared(harm, gap, "angular")
    shares = compared(share, log_share, "angular")
    others = [
        *compared(harm, gap, "n_pairs"),
        *compared(share, log_share, "n_pairs"),
        *compared("Recall@1 of wide classes", wide, "angular"),
    ]
    most = int(np.argmax([f.effect for f in decide]))
    even = [np.exp(log_share(arms["triplet_all"])).mean() for arms in of.values()]
    return Verdict(
        word(decide),
        [*decide, *shares, *others],
        f"Under triplets of all negatives wide classes have {even[0]:.2f} times their "
        f"part of the gradient on drawn classes and {even[1]:.2f} times on glyphs, "
        f"{np.exp(shares[0].effect):.2f} and {np.exp(shares[3].effect):.2f} times what "
        "they have under the angular loss. Their gap in Recall@1 differs by "
        f"{decide[0].effect:+.3f} and {decide[3].effect:+.3f}. It differs most for "
        f"{TRIPLETS[most % 3]} on {BENCHES[('modes', 'glyphs')[most // 3]]}, by "
        f"{decide[most].effect:+.3f}, where Recall@1 of wide classes themselves is "
        f"{others[12 + most].effect:+.3f} from that under the angular loss.",
    )


CLAIM = Claim(
    name="C9",
    claim=(
        "The triplet loss asks one fixed margin of all classes, which suits badly "
        "where some spread more than others; the angular loss has no such flaw."
    ),
    prediction=(
        "The mechanism is there: under a triplet loss wide classes have more than "
        "their part of the gradient, and more than under the angular loss. The harm "
        "is open; we expect no difference of a point in how much worse wide classes "
        "are retrieved. Does not hold, or cannot tell."
    ),
    statistic=(
        "How far Recall@1 of queries of wide classes is below that of narrow ones on "
        "unseen classes, triplet minus angular, 24 paired seeds. First: triplet with "
        "all negatives, drawn classes, every second one four times as wide. That "
        "figure for triplets of all, semi-hard and hardest negatives, on drawn classes "
        "and on glyphs (the half of the classes that spread more is wide), decides. "
        f"{RULE} Beside it: the log of the wide classes' part of the gradient over "
        "their part of the rows, mean over training, likewise; and all with N-pairs "
        "in the place of the angular loss."
    ),
    studies=("spreads-modes", "spreads-glyphs"),
    judge=judge,
)
