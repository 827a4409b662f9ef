"""python -m asel_lib.hub CHECKPOINT --output folder --push owner/name"""

import argparse
import sys

from asel_lib.errors import AselError

EPILOG = """\
Leaves model.safetensors, config.json and README.md as timm has them, and asel.json and selector.safetensors, from which
asel_lib.load("local-dir:folder") makes the selective model again. Nothing leaves this machine without --push."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m asel_lib.hub",
        description="Write a checkpoint as a folder that timm loads, and push it to a hub where that is asked for.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", help="a name from saved_models/ or of a run, or the path of a .safetensors file")
    parser.add_argument("--output", default="", metavar="FOLDER", help="default: the checkpoint's name")
    parser.add_argument("--results", metavar="FILE", help="table for the model card; default: the run's, the committed")
    parser.add_argument("--half", action="store_true", help="weights as 16-bit floats: half the size")
    parser.add_argument("--push", metavar="OWNER/NAME", help="upload the folder there; log in first: hf auth login")
    parser.add_argument("--public", action="store_true", help="for everybody to see; else a new model is private")
    asked = parser.parse_args(arguments)
    from asel_lib import hub  # seconds to import, and --help needs none of it

    try:
        folder = hub.write(asked.checkpoint, asked.output or None, results=asked.results, half=asked.half)
        print(folder)
        if asked.push:
            print(hub.push(folder, asked.push, private=not asked.public))
    except (AselError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
