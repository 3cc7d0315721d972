"""Averages the weights of runs that started from one another or from the same weights (Wortsman et al., Model soups, 2022).

    python -m vidunmask.training.average ONE.safetensors TWO.safetensors --out BOTH.safetensors [--shares 0.7 0.3]

Such runs lie in one valley of the loss, and the middle of a valley is often deeper than its sides: what one run has unlearned
the other may still know. It costs no training and nothing when the network runs. Whether it helps only ``val`` can say.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from vidunmask.errors import UsageError, WeightsError
from vidunmask.networks import weights
from vidunmask.training import ending


def average(files: Sequence[str | Path], out: Path, *, shares: Sequence[float] | None = None, store: str = "float16") -> str:
    """Writes the weighted mean of the tensors of ``files`` as numbers of ``store``; returns the SHA-256 of it.

    ``shares`` are scaled to sum to 1 and equal by default. Raises UsageError for shares that do not fit the files and
    WeightsError for files that do not hold the same network.
    """
    given = list(shares) if shares else [1.0] * len(files)
    if len(files) < 2 or len(given) != len(files) or min(given) < 0 or sum(given) <= 0:
        raise UsageError(f"--shares {' '.join(map(str, given))}: need one for each of two or more files, not negative")
    parts = [weights.read(file) for file in files]
    first = parts[0][0]
    for card, state in parts[1:]:
        same = (card.kind, card.network, card.arguments) == (first.kind, first.network, first.arguments)
        if not same or state.keys() != parts[0][1].keys():
            raise WeightsError(f"{card.path}: holds another network than {first.path}; only the same can be averaged")
    scaled = [share / sum(given) for share in given]
    mean: dict[str, Tensor] = {}
    for name, tensor in parts[0][1].items():
        if tensor.is_floating_point():
            stacked = torch.stack([share * state[name].float() for share, (_, state) in zip(scaled, parts, strict=True)])
            mean[name] = stacked.sum(0)
        else:
            mean[name] = tensor
    told = [card.provenance for card, _ in parts]
    provenance = told[0] | {
        "images": sum(each.get("images", 0) for each in told),
        "sources": sorted({source for each in told for source in each.get("sources", ())}),
        "tiers": sorted({tier for each in told for tier in each.get("tiers", ())}),
        "val": {},  # what it has itself is not known here
        "average_of": [
            {"sha256": card.sha256, "share": round(share, 4), "images": card.provenance.get("images", 0)}
            for share, (card, _) in zip(scaled, parts, strict=True)
        ],
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    return weights.save(
        out,
        mean,
        kind=first.kind,
        network=first.network,
        arguments=first.arguments,
        provenance=provenance,
        dtype=weights.STORED[store],
    )


def main(arguments: list[str] | None = None) -> None:
    """Command line of the average."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", help="weights, shipped names or files")
    parser.add_argument("--out", type=Path, required=True, help="where the average goes")
    parser.add_argument("--shares", type=float, nargs="+", help="how much each file counts (default: all the same)")
    parser.add_argument("--store", choices=weights.STORED, default="float16", help="numbers of the file (default: %(default)s)")
    options = parser.parse_args(arguments)
    digest = average(options.files, options.out, shares=options.shares, store=options.store)
    print(f"averaged {len(options.files)} files to {options.out} (sha256 {digest[:12]})")


if __name__ == "__main__":
    ending.run(main)
