"""The command ``softvq predict``: classify new images with a trained model."""

from __future__ import annotations

from pathlib import Path

from softvq_cli.cli.options import CHECKPOINT, DEVICE, OVERWRITE, Streams, argument, option


def predict(
    *,
    run: Path = CHECKPOINT,
    paths: list[Path] = argument("PATH", "Images, or folders of images; for a model of vectors, files of vectors."),
    neighbours: int = option(3, "Number of nearest training images to name.", value="K"),
    out: Path | None = option(None, "Write a .parquet or .csv file instead.", "-o", value="FILE"),
    device: str = DEVICE,
    overwrite: bool = OVERWRITE,
    terminal: Streams,
) -> None:
    """Classify new images with a trained model: class, cluster, outlier score and nearest training images.

    The class and its probability come from the softmax probe of the run, if its images have labels. The outlier score
    is between 0 and 1: the share of training images that are nearer to their own neighbours. New images take the
    model's size, channels and range of values. After softvq run the folder has all that is needed; otherwise it is
    measured first.

    Examples:
      softvq predict runs/first new.png
      softvq predict runs/first new/ --json | jq '.predictions[].class'
      softvq predict runs/first new/ -o predictions.csv
    """
    from softvq_cli.cli.output import check_present, refuse_existing
    from softvq_cli.cli.tables import predictions_table
    from softvq_cli.errors import UsageError
    from softvq_cli.results import predict as results

    if out is not None:
        if out.suffix not in results.ENDINGS:
            endings = " or ".join(results.ENDINGS)
            raise UsageError(f"predictions are written to a file that ends in {endings}, not {out}")
        check_present(run, *paths)
        refuse_existing(out, overwrite=overwrite)
    predictions = results.predict(run, paths, neighbours=neighbours, device=device, reporter=terminal)
    if out is not None:
        results.write(out, predictions)
        terminal.wrote(out, document={"images": len(predictions)})
        return
    terminal.result({"predictions": predictions}, lambda: predictions_table(predictions))
