#!/bin/sh
# Compare two bottlenecks on the embedded digits: train, embed, cluster and probe each, then one picture of both.
# Usage: sh examples/pipeline.sh [FOLDER [ITERATIONS]]
set -eu
folder=${1:-runs/pipeline}
iterations=${2:-1000}

mkdir -p "$folder"
for bottleneck in ae soft-vq; do
    checkpoint=$(softvq train --data digits --bottleneck "$bottleneck" --iterations "$iterations" \
        --out "$folder/$bottleneck" --quiet)
    embeddings=$(softvq embed "$checkpoint" -o "$folder/$bottleneck.npy" --quiet)
    softvq cluster "$embeddings" --json --quiet >"$folder/$bottleneck.cluster.json"
    softvq probe "$checkpoint" --json --quiet >"$folder/$bottleneck.probe.json"
done
softvq tsne "$folder/ae.npy" "$folder/soft-vq.npy" -o "$folder/maps.png" --quiet
