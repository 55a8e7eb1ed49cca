#!/usr/bin/env bash
# From nothing to neuron paths in a few minutes, on a laptop. Usage: bash scripts/demo.sh
#   Sets up .venv, makes the digits and two small models trained on them (a ViT and a mean-pooled one), finds the
#   paths of 100 held-out digits by all methods, removes and enhances the neurons found, draws some, and makes the atlas.
#   README.md says how long it takes; a second run reuses what is there.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" ""

export RESULTS=results/demo
python scripts/train_digits.py --models ViT-digits
args=$RESULTS/ja/ViT-digits/imgnet_all.args.json again=() # --overwrite where the model was trained anew
if [ -f $args ] && [ ckpt/ViT-digits.npz -nt $args ]; then again=(--overwrite); fi
digits=(${again[@]+"${again[@]}"} --dataset digits --pretrain_weight ckpt/ViT-digits.npz)
# First of all five paths to look at; the search of all images goes on from them.
python scripts/stages.py path/joint_attr.py "${digits[@]}" --labels 0-4 --images_per_class 1 --output_dir $RESULTS/ja/ViT-digits \
    -- scripts/plot_paths.py --results $RESULTS/ja/ViT-digits --dataset_path dataset/digits/val --output $RESULTS/paths
QUADRATURE=right STEPS=20 IMAGES_PER_CLASS=10 PROPORTIONS="0.5 1" bash scripts/reproduce.sh --smoke
echo
echo "The Joint Attribution Score of a path measures how strongly the probability of the right digit depends on its 12"
echo "neurons, one per layer: the neuron path's should be the highest by far. Removing these neurons should lower the"
echo "probability the most, doubling them raise it the most. Look at $RESULTS/paths.png and the notebooks in experiments;"
echo "the records are in $RESULTS/<job>/<model>, one line per image. The atlas has all of it, in a browser:"
echo "$PWD/$RESULTS/atlas/index.html"
