"""The commands of training: `python -m training COMMAND`. Without one it says which there are."""

import sys
from difflib import get_close_matches
from importlib import import_module

COMMANDS = {
    "run": "train, export, score: the same as python training/run.py",
    "rain": "a contact sheet of rain families, among them rain layers of yours",
    "complexity": "is this set of backgrounds simpler than that rain? how many of them can it bear?",
    "curves": "draw loss, learning rate and validation scores of runs, and write them down as a table",
    "evaluate": "score models, or any ONNX deraining networks, side by side",
    "gate": "is a candidate no worse than what is served? with intervals; refuses, or promotes",
    "card": "draw the images of a model card, and write it anew",
    "sheet": "contact sheets of rainy photographs, each beside what comes back",
    "frontier": "draw what models gain in unseen rain against what a megapixel costs",
    "monitor": "fit the score that tells whether rain was left, and measure it",
    "temporal": "train and score the network that lets the frames of a video help one another",
    "study": "the paper's experiment, on one or many machines",
    "ablation": "what each part of the recipe is worth: small trainings with one thing changed",
    "benchmark": "how fast training data is made, and how fast a network takes it",
}


def main(arguments: list[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    if not given or given[0] in ("-h", "--help"):
        print(_table())
        return 0
    name, *rest = given
    if name not in COMMANDS:
        print(f"error: {_unknown(name)}", file=sys.stderr)
        return 2
    module = "training.run" if name == "run" else f"training.commands.{name}"
    status: int = import_module(module).main(rest)  # only now: most load torch
    return status


def _table() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        ["usage: python -m training COMMAND ...", "", *lines, "", "COMMAND --help says what each takes."]
    )


def _unknown(name: str) -> str:
    near = get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
    advice = f"did you mean {near[0]}?" if near else f"commands are {', '.join(COMMANDS)}"
    return f"no command {name!r}; {advice}"


if __name__ == "__main__":
    sys.exit(main())
