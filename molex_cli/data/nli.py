"""A generated natural-language-inference task: does the premise entail the hypothesis?

A premise speaks of two kinds of people; of each it says that somebody of that kind did a thing, or denies it, or
leaves it open. It comes with two hypotheses of one form, one for each kind:

    premise     no judge danced but every cook did
    hypothesis  it was some cook who danced           entailment
    hypothesis  it was some judge who danced          not_entailment

The labels are balanced, and neither the hypothesis by itself nor the length or the number of words it shares with its
premise says anything about the label: the noun's position in the premise decides it. "every" is read as in ordinary
speech, where there is somebody of that kind. The splits share function words only; "development" is there for
choosing sizes and settings without looking at "validation".
"""

import random

from molex_cli.errors import DataError

# Sized for a small encoder on two processor cores: a pair is about 14 tokens, so three epochs are 80,000.
TRAIN_ROWS = 1920
VALIDATION_ROWS = 360
DEVELOPMENT_ROWS = 360
SIZES = {"train": TRAIN_ROWS, "validation": VALIDATION_ROWS, "development": DEVELOPMENT_ROWS}

# The generator's own constant: the rows are data, the same for every run whatever its seed.
SEED = 1920

# Common words, one token each in BERT's vocabulary, so that a short sentence stays a short sequence.
NOUNS = {
    "train": """actor artist author baker banker bishop captain chef clerk coach cook dancer doctor driver engineer
        farmer guard guest hunter judge king lawyer manager mayor miner monk nurse officer painter pilot poet priest
        prince sailor scholar senator singer soldier student teacher tourist widow worker writer""",
    "validation": """agent architect boxer butler carpenter composer consul detective diplomat editor general governor
        historian inspector knight librarian merchant minister musician professor sheriff surgeon""",
    "development": """admiral ambassador analyst attorney bartender chancellor cowboy critic director drummer executive
        fisherman gardener hero journalist landlord magician maid novelist physicist president reporter scientist
        warrior""",
}
# What a person does.
ACTIONS = {
    "train": """arrived cried danced died escaped failed fell laughed left lost prayed ran retired sang slept smiled
        stayed swam talked voted waited walked won worked""",
    "validation": "cheered drowned fled fought knelt marched studied surrendered survived vanished",
    "development": "complained coughed drank jumped nodded paused resigned shouted slipped whispered",
}

# The labels of the hypotheses about {a} and about {b}, and the premises; {did} is what the hypotheses are about. Either
# kind comes first as often, so that their order says nothing.
YES, NO = "entailment", "not_entailment"
PREMISES = {
    "exception": (YES, NO, ["every {a} but no {b} {did}", "no {b} but every {a} {did}"]),
    "contrast": (YES, NO, ["every {a} {did} but no {b} did", "no {b} {did} but every {a} did"]),
    "both": (YES, YES, ["every {a} and every {b} {did}", "every {b} {did} and so did every {a}"]),
    "neither": (NO, NO, ["no {a} and no {b} {did}", "no {b} {did} and nor did any {a}"]),
}
# What each six premises are. The two of "both" and "neither" can be known from the premise alone, which lifts a guesser
# that reads no structure to 67 % at most; they are what a short training first gets a hold on.
CYCLE = ("exception", "contrast", "both", "exception", "contrast", "neither")
HYPOTHESES = ["some {kind} {did}", "some {kind} {did}", "it was some {kind} who {did}"]


def rows(split: str) -> list[dict[str, str]]:
    """Return the rows of "train", "validation" or "development": a premise, a hypothesis and a label each."""
    if split not in SIZES:
        raise DataError(f"the grammar's split must be one it generates, got {split!r}; take one of {', '.join(SIZES)}")
    rng = random.Random(f"{SEED} {split}")
    nouns, actions = NOUNS[split].split(), ACTIONS[split].split()
    made: list[dict[str, str]] = []
    premises: set[str] = set()
    while len(made) < SIZES[split]:
        a, b = rng.sample(nouns, 2)
        did = rng.choice(actions)
        a_label, b_label, forms = PREMISES[CYCLE[len(premises) % len(CYCLE)]]
        premise = rng.choice(forms).format(a=a, b=b, did=did)
        hypothesis = rng.choice(HYPOTHESES)
        if premise in premises:
            continue
        premises.add(premise)
        for kind, label in ((a, a_label), (b, b_label)):
            made.append({"premise": premise, "hypothesis": hypothesis.format(kind=kind, did=did), "label": label})
    return made
