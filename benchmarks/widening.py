"""How far a hole should reach beyond the mask: the pipeline on clips with drawn masks, under several settings of `holes`.

    python benchmarks/widening.py CLIPS [--seconds 4] [--out benchmarks/widening.md]

CLIPS is a folder of unmasked faces. Drawn masks have cleaner edges than real ones have, so the figures alone would have the
holes smaller than they are; what is left of real masks the eye must tell (`photo_sheet.py`).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from vidunmask.pipelines import cli
from vidunmask.stages import blend, holes

NEVER = 2.0  # no probability is as high
SHIPS = {name: getattr(holes, name) for name in ("SAFETY", "DOUBT", "_DOUBTED", "SMEAR", "MOST", "RIM")}
SETTINGS: dict[str, dict[str, float]] = {
    "9 px everywhere, what shipped before": {"SAFETY": 4, "_DOUBTED": NEVER, "RIM": 5},
    "6 px, to 9 in doubt and 8 where small, what ships": {},
    "6 px everywhere": {"_DOUBTED": NEVER, "SMEAR": 0},
    "5 px, to 9 in doubt and 8 where small": {"SAFETY": 1},
}
COLUMNS = ("psnr", "ssim", "l1", "mask left", "flicker", "seam too much")


def main() -> None:
    """Runs all settings and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, metavar="CLIPS")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each clip (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="also write it there")
    options = parser.parse_args()
    lines = [
        "# How far holes reach beyond the mask",
        "",
        f"Means of the clips of `vidunmask evaluate --clips CLIPS --seconds {options.seconds:g}`, made by `widening.py`.",
        "",
        "| setting | " + " | ".join(COLUMNS) + " |",
        "|---" * (1 + len(COLUMNS)) + "|",
    ]
    for name, changed in SETTINGS.items():
        for constant, value in {**SHIPS, **changed}.items():
            setattr(holes, constant, value)
        blend.RIM = holes.RIM
        with TemporaryDirectory() as folder:
            command = [
                "evaluate",
                "--clips",
                str(options.clips),
                "--out",
                f"{folder}/figures",
                "--seconds",
                str(options.seconds),
            ]
            if code := cli.main(command):
                sys.exit(code)
            (figures,) = json.loads((Path(folder) / "figures" / "clips.json").read_text())["clips"].values()
        means = [np.mean([clip[column] for clip in figures.values()]) for column in COLUMNS]
        lines.append(f"| {name} | " + " | ".join(f"{mean:.4f}" for mean in means) + " |")
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
