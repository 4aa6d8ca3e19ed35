"""Writes the csv of the tutorial: made-up reviews whose last sentence decides; one label in ten is wrong.

python docs/tutorial/reviews.py reviews.csv [--rows 600] [--seed 0]
"""

import argparse
import csv
import random

THINGS = ["room", "food", "staff", "bed", "view", "coffee", "music", "price", "pool", "garden", "shower", "breakfast"]
GOOD = ["lovely", "excellent", "spotless", "friendly", "superb", "charming", "fresh", "quiet"]
BAD = ["awful", "dirty", "rude", "broken", "noisy", "stale", "gloomy", "dreadful"]
OPENINGS = [
    "We stayed for {nights} nights.",
    "A short trip with {company}.",
    "Our second visit.",
    "Booked at the last minute.",
]
WRONG = 0.1
COMPANY = ["friends", "my parents", "two children", "a colleague"]


def sentence(draw: random.Random, is_good: bool) -> str:
    """Return a sentence that praises or complains; a third says so by denying the opposite."""
    is_denied = draw.random() < 1 / 3
    word = draw.choice(GOOD if is_good != is_denied else BAD)
    return f"the {draw.choice(THINGS)} was {'not ' if is_denied else ''}{word}"


def review(draw: random.Random, is_good: bool) -> str:
    """Return a review; half begin with the opposite of what they end with."""
    opening = draw.choice(OPENINGS).format(nights=draw.randint(2, 9), company=draw.choice(COMPANY))
    first = sentence(draw, is_good if draw.random() < 0.5 else not is_good)
    return f"{opening} {first.capitalize()}. In the end {sentence(draw, is_good)}."


def main() -> None:
    """Write the rows, half of them good."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    with open(options.file, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for row in range(options.rows):
            is_good = row % 2 == 0
            text = review(draw, is_good)
            writer.writerow([text, "good" if is_good != (draw.random() < WRONG) else "bad"])


if __name__ == "__main__":
    main()
