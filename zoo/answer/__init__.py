"""From a bundle to answers, without torch."""
