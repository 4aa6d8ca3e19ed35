"""A generated natural-language-inference task: does the premise entail the hypothesis?

A premise speaks of two kinds of people, of which one did something to somebody and the other did not, or is not
said to have done it; it comes with two hypotheses of one form, one for each kind:

    premise     Anna was thanked by no judge but by every cook
    hypothesis  it was Anna that some cook thanked     entailment
    hypothesis  it was Anna that some judge thanked    not_entailment

So the labels are balanced, and neither the hypothesis by itself nor the length or the number of words it shares
with its premise says anything about the label: the noun's place in the premise decides it. "every" is read as it
is in ordinary speech, where there is somebody of that kind. The splits share function words only; "development"
is there for choosing sizes and settings without looking at "validation".
"""

import random

from molex_cli.errors import DataError

TRAIN_ROWS = 1440
VALIDATION_ROWS = 360
DEVELOPMENT_ROWS = 360
SIZES = {"train": TRAIN_ROWS, "validation": VALIDATION_ROWS, "development": DEVELOPMENT_ROWS}

# The generator's own constant: the rows are data, the same for every run whatever its seed.
SEED = 1440

# One word of a usual vocabulary each, so that a short sentence stays a short sequence.
NOUNS = {
    "train": """actor artist author baker banker bishop captain chef clerk coach cook dancer doctor driver
        engineer farmer guard guest hunter judge king lawyer manager mayor miner monk nurse officer painter pilot
        poet priest prince sailor scholar senator singer soldier student teacher tourist widow worker writer""",
    "validation": """agent architect boxer butler carpenter composer consul detective diplomat editor
        general governor historian inspector knight librarian merchant minister musician professor sheriff
        surgeon""",
    "development": """admiral ambassador analyst attorney bartender chancellor cowboy critic director drummer
        executive fisherman gardener hero journalist landlord magician maid novelist physicist president
        reporter scientist warrior""",
}
NAMES = {
    "train": """Alan Albert Alice Amanda Amy Andrew Angela Anna Anthony Arthur Barbara Benjamin Brian Bruce Carol
        Caroline Charles Christine Daniel David Diana Donald Dorothy Douglas Edward Elizabeth Emily Emma Eric
        Frances Gary George Gloria Harold Helen Henry Jacob Jane Janet Jason Jennifer Jessica John Joseph Julia""",
    "validation": """Karen Katherine Keith Kenneth Kevin Larry Laura Lawrence Leonard Linda Lisa Louis Lucy Margaret
        Maria Martha Martin Mary Matthew Michael Michelle Nancy Natalie Nathan""",
    "development": """Nicholas Nicole Olivia Oliver Pamela Patricia Patrick Paul Peter Philip Rachel Ralph Raymond
        Rebecca Richard Robert Samuel Sarah Simon Sophia Stephen Susan Thomas Victoria""",
}
# Verbs whose past tense is also their participle, so that the active and the passive share one word.
VERBS = {
    "train": """admired blamed called chased feared followed greeted helped hired ignored invited kissed
        mentioned noticed praised pushed robbed saved thanked trusted visited warned watched""",
    "validation": "accused approached consulted defended hated insulted loved punished supported touched trained",
    "development": "advised attacked avoided betrayed cheated kicked rescued respected stopped",
}

# {a} is the noun that the entailed hypothesis names, {b} the other; {x} the person; {v} the verb of the hypotheses,
# {w} another verb; {d} and {e} are "some" or "every". Each noun comes first as often as the other, or nearly so,
# so that their order says nothing. First what {a} did to {x} ...
ACTS = {
    "exception": [
        "every {a} but no {b} {v} {x}",
        "no {b} but every {a} {v} {x}",
        "{x} was {v} by every {a} but no {b}",
        "{x} was {v} by no {b} but every {a}",
    ],
    "contrast": [
        "every {a} {v} {x} but no {b} did",
        "no {b} {v} {x} but every {a} did",
        "{x} was {v} by every {a} but by no {b}",
        "{x} was {v} by no {b} but by every {a}",
    ],
    "relative": [
        "{d} {a} who {w} {e} {b} {v} {x}",
        "{d} {b} {w} {e} {a} who {v} {x}",
        "{x} was {v} by {d} {a} who was {w} by {e} {b}",
        "{d} {b} was {w} by {e} {a} who {v} {x}",
    ],
    "hypothesis": [
        "some {a} {v} {x}",
        "{x} was {v} by some {a}",
        "it was some {a} who {v} {x}",
        "it was {x} that some {a} {v}",
    ],
}
# ... then what {x} did to {a}.
SUFFERS = {
    "exception": [
        "every {a} but no {b} was {v} by {x}",
        "no {b} but every {a} was {v} by {x}",
        "{x} {v} every {a} but no {b}",
        "{x} {v} no {b} but every {a}",
    ],
    "contrast": [
        "every {a} was {v} by {x} but no {b} was",
        "no {b} was {v} by {x} but every {a} was",
        "{x} {v} every {a} but {v} no {b}",
        "{x} {v} no {b} but {v} every {a}",
    ],
    "relative": [
        "{d} {a} who {w} {e} {b} was {v} by {x}",
        "{d} {b} {w} {e} {a} who was {v} by {x}",
        "{x} {v} {d} {a} who was {w} by {e} {b}",
        "{d} {b} was {w} by {e} {a} that {x} {v}",
    ],
    "hypothesis": [
        "some {a} was {v} by {x}",
        "{x} {v} some {a}",
        "it was some {a} that {x} {v}",
        "it was {x} who {v} some {a}",
    ],
}
CONSTRUCTIONS = ("exception", "contrast", "relative")


def rows(split: str) -> list[dict[str, str]]:
    """Return the rows of "train", "validation" or "development": a premise, a hypothesis and a label each."""
    if split not in SIZES:
        raise DataError(f"the split of the grammar task must exist, got {split!r}; take one of {', '.join(SIZES)}")
    rng = random.Random(f"{SEED} {split}")
    nouns, names, verbs = NOUNS[split].split(), NAMES[split].split(), VERBS[split].split()
    made: list[dict[str, str]] = []
    premises: set[str] = set()
    while len(made) < SIZES[split]:
        # One construction after another: each has the same share of the rows.
        construction = CONSTRUCTIONS[len(premises) % len(CONSTRUCTIONS)]
        forms = rng.choice((ACTS, SUFFERS))
        (noun, other), (v, w) = rng.sample(nouns, 2), rng.sample(verbs, 2)
        fillers = {"x": rng.choice(names), "v": v, "w": w}
        fillers |= {"d": rng.choice(("some", "every")), "e": rng.choice(("some", "every"))}
        premise = rng.choice(forms[construction]).format(a=noun, b=other, **fillers)
        hypothesis = rng.choice(forms["hypothesis"])
        if premise in premises:
            continue
        premises.add(premise)
        for subject, label in ((noun, "entailment"), (other, "not_entailment")):
            made.append({"premise": premise, "hypothesis": hypothesis.format(a=subject, **fillers), "label": label})
    return made
