"""A generated natural-language-inference task: does the premise entail the hypothesis?

Every premise comes with two hypotheses, one entailed and one not, of one form and one length: both reuse
the premise's words and differ only in which of its people (or which of its events) fill which place. So the
labels are exactly balanced, and neither the hypothesis by itself nor the words the two sentences share say
anything about the label: who did what to whom must be read off the structure. The splits share function
words only; "development" is there for choosing settings without looking at "validation".
"""

TRAIN_ROWS = 1600
VALIDATION_ROWS = 400
DEVELOPMENT_ROWS = 400
SIZES = {"train": TRAIN_ROWS, "validation": VALIDATION_ROWS, "development": DEVELOPMENT_ROWS}

# The generator's own constant: the rows are data, the same for every run whatever its seed.
SEED = 20240607

# People; verbs whose past tense is also their participle (so that both voices share one word); adjectives.
NOUNS = {
    "train": """actor artist author baker banker bishop captain chef clerk coach cook dancer doctor driver
        engineer farmer guard guest hunter judge king lawyer manager mayor miner monk nurse officer painter pilot
        poet priest prince sailor scholar senator singer soldier student teacher tourist widow worker writer""",
    "validation": """agent architect boxer butler carpenter composer consul dentist detective diplomat editor
        general governor historian inspector knight librarian merchant minister musician professor sheriff
        surgeon tailor""",
    "development": """admiral ambassador analyst attorney bartender chancellor cowboy critic director drummer
        executive fisherman gardener hero journalist landlord magician maid novelist physicist president
        reporter scientist warrior""",
}
VERBS = {
    "train": """admired blamed called chased feared followed greeted helped hired ignored invited kissed
        mentioned noticed phoned praised pushed robbed saved thanked trusted visited warned watched""",
    "validation": "accused approached consulted defended hated insulted loved married punished supported touched trained",
    "development": "advised attacked avoided betrayed cheated envied honored kicked rescued respected stopped",
}
ADJECTIVES = {
    "train": "angry blind brave busy happy hungry lonely nervous old poor proud quiet sick strong tall young",
    "validation": "calm clever famous honest lazy polite rich tired",
    "development": "curious drunk friendly gentle lucky sad short wise",
}

# A clause "{a} did {v} to {b}", by the order in which its two people are named.
FORMS = [
    "{a} {v} {b}",
    "{b} was {v} by {a}",
    "it was {a} who {v} {b}",
    "it was {b} who was {v} by {a}",
    "it was {b} that {a} {v}",
    "the one who {v} {b} was {a}",
]
