"""Results of one run: finding its data, evaluation, maps, predictions, image issues and information."""
