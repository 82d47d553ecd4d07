#!/bin/sh
# A folder of photos from start to answer: look at the data, train, make a page, list bad images, name a new photo.
# Usage: sh examples/photos.sh FOLDER [OUT [ITERATIONS]]
set -eu
photos=$1
out=${2:-runs/photos}
iterations=${3:-2000}

# What softvq reads: images per class and split, and everything that is left out or changed.
softvq data show "$photos" --image-size 32

# Train a model, then evaluate it next to chance, raw data and PCA. The same line continues after a stop.
softvq run --data "$photos" --image-size 32 --iterations "$iterations" --out "$out" --resume

# A page for the browser: the test photos on a map, clusters, codewords, confusions.
softvq report "$out" --out "$out/report.html" --overwrite

# Duplicates, leaks between training and test photos, outliers and doubtful labels, one line each in a table.
softvq issues "$photos" --run "$out" --image-size 32 --out "$out/issues.csv" --overwrite

# The answer for a photo: its class, its cluster, how unusual it is, and the training photos that resemble it.
# Here it is the first photo of the folder; give a new one instead.
new=$(find "$photos" -type f \( -iname '*.jpg' -o -iname '*.jpeg' -o -iname '*.png' \) | sort | head -n 1)
softvq predict "$out" "$new" --out "$out/prediction.csv" --overwrite
