#!/bin/sh
# Compare two bottlenecks on the same data, with controls (chance, raw data, PCA, an untrained encoder) and intervals.
# Usage: sh examples/compare.sh [DATA [OUT [ITERATIONS]]]
set -eu
data=${1:-digits}
out=${2:-runs/compare}
iterations=${3:-1000}

# The table is in OUT/compare.md, .csv and .json, the figure in OUT/compare.png. The same line continues after a stop.
softvq compare --data "$data" --bottleneck ae,soft-vq --seeds 3 --iterations "$iterations" --out "$out"
cat "$out/compare.md"
