#!/usr/bin/env python3
"""Compare the trainer's accuracy on MNIST with the same network in PyTorch: five epochs, seeds 0, 1, 2.

Succeeds if the trainer's mean is high enough, and close enough to PyTorch's.
"""

import argparse
import statistics
import sys

import measuring

LEAST_MEAN = 0.989
LARGEST_DIFFERENCE = 0.0015


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    measuring.add_arguments(parser)
    parser.add_argument("--seeds", default="0,1,2", help="comma-separated")
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    measuring.check_arguments(options)

    print("| seed | trainer | PyTorch |\n| --- | --- | --- |", flush=True)
    ours, theirs = [], []
    for seed in options.seeds.split(","):
        common = ["--seed", seed, "--epochs", options.epochs]
        training = measuring.run_trainer(options, "--dataset", "mnist", *measuring.UNWATCHED, *common)
        ours.append(training.epochs[-1]["val_accuracy"])
        training = measuring.run_peer(options, "--in-memory", *common)
        theirs.append(training.epochs[-1]["val_accuracy"])
        print(f"| {seed} | {ours[-1]:.4f} | {theirs[-1]:.4f} |", flush=True)
    mean, peer_mean = statistics.mean(ours), statistics.mean(theirs)
    difference = mean - peer_mean
    print(f"| mean | {mean:.4f} | {peer_mean:.4f} |")
    print(f"\ndifference of the means: {difference:+.4f}")
    # Accuracies are counts of 10,000 images; rounding must not decide.
    if mean < LEAST_MEAN - 1e-9:
        sys.exit(f"parity: the mean accuracy is {mean:.4f}, at least {LEAST_MEAN} is wanted")
    if abs(difference) > LARGEST_DIFFERENCE + 1e-9:
        sys.exit(f"parity: the means differ by {abs(difference):.4f}, at most {LARGEST_DIFFERENCE} is wanted")


if __name__ == "__main__":
    main()
