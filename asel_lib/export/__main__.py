"""python -m asel_lib.export CHECKPOINT --keep-ratio 0.3 --int8 --output deployed"""

import argparse
import sys

from asel_lib.errors import AselError

EPILOG = """\
Leaves <checkpoint>_<ratio>.onnx, with --int8 also <checkpoint>_<ratio>_int8.onnx, and predict.py, which needs only
onnxruntime, numpy and Pillow: python deployed/predict.py image.jpg folder/"""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m asel_lib.export",
        description="Write a checkpoint at one keep ratio, or several, as ONNX files.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", help="a name from saved_models/ or of a run, or the path of a .safetensors file")
    parser.add_argument("--keep-ratio", type=float, nargs="+", default=[1.0], metavar="R", help="in (0, 1]; default: 1")
    parser.add_argument("--output", default="deployed", metavar="FOLDER", help="default: deployed")
    parser.add_argument("--policy", help="another selector than the model's own, e.g. random or central")
    parser.add_argument("--int8", action="store_true", help="also in int8, calibrated on val images of the checkpoint")
    parser.add_argument("--calibration", type=int, metavar="N", help="on how many; default: 128")
    parser.add_argument("--data", default="", metavar="FOLDER", help="where its image set lies, if it moved")
    parser.add_argument(
        "--no-preprocessing", action="store_true", help="take normalised float32 (B, 3, H, W), not uint8 (B, H, W, 3)"
    )
    asked = parser.parse_args(arguments)
    from asel_lib.export import export  # seconds to import, and --help needs none of it
    from asel_lib.export.calibration import IMAGES

    for ratio in asked.keep_ratio:
        try:
            made = export(
                asked.checkpoint,
                ratio,
                asked.output,
                policy=asked.policy,
                int8=asked.int8,
                preprocessing=not asked.no_preprocessing,
                calibration=IMAGES if asked.calibration is None else asked.calibration,
                data=asked.data,
            )
        except (AselError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        for file in (made.float32, made.int8):
            if file:
                print(f"{file}  {file.stat().st_size / 1e6:.1f} MB", flush=True)
    print(f"python {made.script} {made.float32} image.jpg folder/")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
