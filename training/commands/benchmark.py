"""How fast training data is made, and how fast a network takes it: patches a second, on one core.

    python -m training benchmark

Times are of this machine at this moment: compare what one run prints, not one run with another.
"""

import argparse

from derain.arguments import run_command
from training.arguments import positive
from training.trainer.throughput import PATCH_PX, measure, measure_training


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training benchmark", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=positive, default=2, help="for each line (default: 2)")
    options = parser.parse_args(arguments)
    return run_command(lambda: _show(options.seconds))


def _show(seconds: float) -> int:
    print(f"patches of {PATCH_PX} px a second, on one core")
    for name, per_second in measure(seconds):
        print(f"{per_second:8.0f}  {name}")
    print("samples a second in training, on one core each")
    for name, per_second in measure_training(seconds):
        print(f"{per_second:8.0f}  {name}")
    return 0
