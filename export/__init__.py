"""Run folder -> bundle, with proof that it answers like the trained model. Nothing to run here
yet."""
