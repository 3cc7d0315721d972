"""What decides the frames of a result: by it work that was begun is gone on with, and finished results are skipped."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from vidunmask import __version__
from vidunmask.pipelines.batch import ledger as books
from vidunmask.pipelines.batch.terms import BatchOptions
from vidunmask.pipelines.build import choose_device
from vidunmask.pipelines.config import Config
from vidunmask.pipelines.report import library_versions


def identity_of(config: Config, options: BatchOptions) -> dict[str, Any]:
    """Everything but the file that decides its frames. Raises DeviceError or WeightsError."""
    from vidunmask.networks import weights
    from vidunmask.networks.precision import choose_dtype

    cards = [weights.read_card(name) for name in (config.segmenter, config.inpainter)]
    # What a cluster's machines have is found out there.
    device, precision = config.device, config.precision
    if options.ray is None:
        chosen = choose_device(config.device)
        device, precision = chosen.type, str(choose_dtype(config.precision, chosen))
    kept = {
        name: value
        for name, value in asdict(config).items()
        if name not in ("overwrite", "device", "precision", "segmenter", "inpainter", "convert_streams")
    }
    return {
        "options": kept,
        "weights": [card.sha256 for card in cards],
        "device": device,
        "precision": precision,
        "segment": options.segment_seconds,
        "copy_untouched": options.copy_untouched,
        "version": __version__,
        "libraries": library_versions(),
    }


def digest_of(config: Config, options: BatchOptions, identity: dict[str, Any]) -> str:
    """Of what a finished result is compared by: what the user asked for, but not how it was worked off nor the versions."""
    asked = {key: value for key, value in identity["options"].items() if key not in ("batch", "compile")}
    more = {"streams": config.convert_streams, "container": options.container, "copy": options.copy_untouched}
    return books.digest({**asked, **more, "weights": identity["weights"]})
